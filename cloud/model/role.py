"""What a process of the coordinator does."""

from enum import StrEnum


class Role(StrEnum):
    """In the order in which they start; they stop in the reverse one."""

    BROKER = "broker"  # a nats-server of our own
    COORDINATOR = "coordinator"  # leads or stands by: commands, desk, audit checkpoints, reports
    GATEWAY = "gateway"  # gRPC for agents
    INGEST = "ingest"  # telemetry into fleet state and history
    CONSOLE = "console"
