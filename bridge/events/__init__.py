"""What happened, told to those who listen: webhooks, sinks and a stream."""
