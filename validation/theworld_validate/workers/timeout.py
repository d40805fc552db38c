"""How long a worker may take where nobody says otherwise; apart, so that the command line knows it at no cost."""

DEFAULT_TIMEOUT_SECONDS = 1800.0
