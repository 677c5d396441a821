"""What people look at: traffic, quality and margin, charts of them, the partner's monthly report, the itemised bill."""
