"""Commands that are killed at random moments and given again."""
