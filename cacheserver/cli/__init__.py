"""Commands: options, output and exit codes; a running node is asked through ``cli.admin_client``."""
