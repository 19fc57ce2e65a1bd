"""One run: its folder, settings, device, ranks, random states, log, media, and interruption by signals."""
