"""One run as an artefact: its folder, device, ranks, random states, log, pictures, and how it is interrupted."""
