"""The coordinator's roles, one module each: `start` builds a role's parts on what every role stands on."""
