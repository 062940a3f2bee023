"""What training reports per branch."""
