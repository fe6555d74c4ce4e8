"""Stand-ins for services that no test can reach: real servers on loopback, as strict as the real ones."""
