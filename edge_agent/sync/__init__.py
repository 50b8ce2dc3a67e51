"""The cloud session: enrolment, telemetry, intents and the journal that survives outages."""
