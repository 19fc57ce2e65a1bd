"""Data sets made from recordings: the archives of the CS:GO data, and folders of videos."""
