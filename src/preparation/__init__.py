"""Data sets made from recordings: the archives of the CS:GO data, folders of videos, and Minari data sets."""
