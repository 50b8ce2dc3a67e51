"""The API's part for programs that dispatch: what is asked and what came of it, activations, setpoints, the stop."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel, Field

from cloud.api.emergency import Emergency
from cloud.api.sessions import CallViewer, call_needs
from cloud.dispatch import asking
from cloud.gateway.stopping import Told
from cloud.model.access import Permission, Principal
from cloud.model.approval import Approval, Limits
from cloud.model.dispatch import Activation, DispatchRefused, GroupLimit
from cloud.model.regulation import RegulationRecord
from cloud.store.errors import LedgerError, LedgerUnavailable
from cloud.store.ledger import Ledger

MOST_SITES = 10_000

Dispatcher = Annotated[Principal, call_needs(Permission.DISPATCH)]
Stopper = Annotated[Principal, call_needs(Permission.STOP)]
Power = Annotated[int, Field(ge=-asking.MOST_W, le=asking.MOST_W, description="positive towards the grid [W]")]
Minutes = Annotated[float, Field(gt=0, le=asking.LONGEST_MINUTES, allow_inf_nan=False)]
Reason = Annotated[str, Field(min_length=1, max_length=1000, description="for people and the audit log")]


class ActivationWanted(BaseModel):
    group: str
    power_w: Power
    minutes: Minutes
    in_minutes: Annotated[float, Field(ge=0, le=asking.LONGEST_MINUTES, allow_inf_nan=False)] = 0.0
    source: str = "own"
    reason: Reason


class SetpointWanted(BaseModel):
    sites: Annotated[list[str], Field(min_length=1, max_length=MOST_SITES)]
    power_w: Power
    minutes: Minutes
    reason: Reason


class StopWanted(BaseModel):
    """Whom: `sites` and `groups`, or `all`."""

    sites: Annotated[list[str], Field(max_length=MOST_SITES)] = []
    groups: Annotated[list[str], Field(max_length=MOST_SITES)] = []
    all: bool = False
    lift: bool = False
    reason: Reason


class OrderState(BaseModel):
    order_id: str
    site: str
    kind: str
    sequence: int | None
    state: str
    reason: str
    valid_from_ms: int
    expires_ms: int
    by: str


class ApprovalState(BaseModel):
    number: int
    area: str
    from_w: float
    to_w: float
    reason: str
    asked_by: str
    asked_ms: int
    expires_ms: int
    state: str
    limits: Limits | None
    change: str | None


class Regulated(BaseModel):
    regulation: RegulationRecord
    broadcast: Annotated[list[tuple[int, int]], Field(description="UTC [ms], millionths of the contracted power")]


class DispatchState(BaseModel):
    activations: list[Activation]
    limits: list[GroupLimit]
    regulations: list[RegulationRecord]
    orders: list[OrderState]
    approvals: list[ApprovalState]


def dispatch_router(ledger: Ledger, emergency: Emergency, now_ms: Callable[[], int]) -> APIRouter:
    """Routes of the API. What is refused is answered 422 with the reason."""
    router = APIRouter(responses={401: {"description": "No session"}, 403: {"description": "No permission"}})

    @router.get("/dispatch")
    def state(_: CallViewer) -> DispatchState:
        """The last 200 activations and addressed orders, limits in force, approvals that wait or of the last day."""
        at_ms = now_ms()
        return DispatchState(
            activations=ledger.activations(),
            limits=list(ledger.group_limits(at_ms).values()),
            regulations=ledger.regulations(),
            orders=[_order(told) for told in asking.order_states(ledger)],
            approvals=[_approval(each, at_ms) for each in ledger.recent_approvals(at_ms)],
        )

    @router.get("/regulations/{regulation_id}")
    def regulation(_: CallViewer, regulation_id: str) -> Regulated:
        """A regulation contract, how its following was scored, and each value that was broadcast."""
        found = ledger.regulation(regulation_id)
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"regulation {regulation_id!r} is unknown")
        return Regulated(regulation=found, broadcast=ledger.regulation_signals(regulation_id))

    @router.post("/activations", status_code=HTTPStatus.CREATED)
    def activate(caller: Dispatcher, wanted: ActivationWanted) -> Activation:
        """Hold a group's inverters together at a power, for a time."""
        with _Refusals():
            activation = asking.activation(**wanted.model_dump(), actor=caller.actor, now_ms=now_ms())
            ledger.add_activation(activation)
        return activation

    @router.post("/activations/{activation_id}/end", status_code=HTTPStatus.NO_CONTENT)
    def end(caller: Dispatcher, activation_id: str) -> None:
        """End an activation now."""
        with _Refusals():
            ledger.end_activation(activation_id, now_ms(), caller.actor)

    @router.post("/setpoints", status_code=HTTPStatus.CREATED)
    def setpoint(caller: Dispatcher, wanted: SetpointWanted) -> list[OrderState]:
        """Ask single sites for a power: all of them, or none where one is unknown."""
        with _Refusals():
            orders = asking.setpoints(**wanted.model_dump(), actor=caller.actor, now_ms=now_ms())
            asking.give(ledger, orders)
        return [_order(asking.OrderState(order, "waiting", "")) for order in orders]

    @router.post("/stop", responses={503: {"model": Told, "description": "Not everybody was told"}})
    async def stop(caller: Stopper, wanted: StopWanted, response: Response) -> Told:
        """The emergency stop, and its end. 503 where somebody was not told: `failures` says who."""
        with _Refusals():
            told = await emergency.order(
                stop=not wanted.lift,
                reason=wanted.reason,
                sites=wanted.sites,
                groups=wanted.groups,
                everybody=wanted.all,
                actor=caller.actor,
            )
        if told.failures:
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return told

    return router


class _Refusals:
    """What is refused inside becomes an answer that says why."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DispatchRefused | LedgerError) and not isinstance(error, LedgerUnavailable):
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error


def _order(told: asking.OrderState) -> OrderState:
    return OrderState(
        order_id=told.order.order_id,
        site=told.order.site,
        kind=told.order.kind,
        sequence=told.order.sequence,
        state=told.state,
        reason=told.reason,
        valid_from_ms=told.order.valid_from_ms,
        expires_ms=told.order.expires_ms,
        by=told.order.actor,
    )


def _approval(asked: Approval, now_ms: int) -> ApprovalState:
    return ApprovalState(
        number=asked.number,
        area=asked.area,
        from_w=asked.from_w,
        to_w=asked.to_w,
        reason=asked.reason,
        asked_by=asked.asked_by,
        asked_ms=asked.asked_ms,
        expires_ms=asked.expires_ms,
        state=asked.state(now_ms),
        limits=asked.limits,
        change=asked.change,
    )
