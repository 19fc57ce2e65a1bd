"""Data sets made of what others recorded: archives of the CS:GO data, folders of videos."""
