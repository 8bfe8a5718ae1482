"""The network as it was given, which judges witnesses."""
