"""The gateway: two gRPC servers, one where the token is the proof and one where the client certificate is."""

from functools import partial

from cloud.data_folder import write_json
from cloud.gateway import servers
from cloud.gateway.broker import bracketed
from cloud.gateway.credentials import CredentialIssuer
from cloud.gateway.enrolment import EnrolmentService
from cloud.gateway.site_service import SiteGateway
from cloud.roles.foundation import Foundation, utc_now
from protos.vpp.v1 import site_pb2_grpc


async def start(on: Foundation) -> None:
    """Returns when both serve."""
    listen = on.config.listen
    public = bracketed(listen.advertised_host)
    enrolment_port, site_port = on.ports["enrolment_port"], on.ports["site_port"]
    urls = on.config.messaging.urls or ((on.broker.url,) if on.broker is not None else ())
    service = f"{public}:{site_port}"
    issuer = CredentialIssuer(on.keyring, on.ledger, nats_urls=urls, site_service=service, next_seq=on.history.next_seq)
    enrolment, sites = servers.make_server(), servers.make_server()
    site_pb2_grpc.add_EnrolmentServicer_to_server(  # type: ignore[no-untyped-call]
        EnrolmentService(on.ledger, issuer, utc_now), enrolment
    )
    interval_ms = on.config.telemetry.interval_ms
    site_gateway = SiteGateway(
        on.ledger, issuer, updates=on.data.updates, telemetry_interval_ms=interval_ms, now=utc_now
    )
    site_pb2_grpc.add_SiteServiceServicer_to_server(site_gateway, sites)  # type: ignore[no-untyped-call]
    for server, port, key, client_certificates in (
        (enrolment, enrolment_port, "enrolment_port", False),
        (sites, site_port, "site_port", True),
    ):
        servers.bind_tls(
            server, on.keyring, host=listen.host, port=port, key=key, client_certificates=client_certificates
        )
        on.parts.on_stop(f"gRPC on {key}", partial(server.stop, servers.STOP_S))
        await server.start()
    on.served |= {"enrolment": f"{public}:{enrolment_port}", "site_service": service}
    write_json(on.data.addresses, {"enrolment": on.served["enrolment"]})
