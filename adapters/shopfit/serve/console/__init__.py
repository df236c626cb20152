"""The console: pages at /console for people who never see a shell. What they may do is what their API key may do."""
