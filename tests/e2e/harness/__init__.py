"""What the tests with real processes share: the server as a process, certificates, a bare client."""
