"""The names of keys and mouse buttons, which configuration files, recordings and both front ends share.

They are the names of SDL 2, as pygame's `key.name` returns them. A test compares the two lists.
"""

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`"
KEYPAD = tuple(f"[{sign}]" for sign in "0123456789*+-./")
NAMED = (
    *("space", "return", "enter", "escape", "tab", "backspace", "delete", "insert", "home", "end", "clear"),
    *("page up", "page down", "up", "down", "left", "right", "left shift", "right shift", "left ctrl", "right ctrl"),
    *("left alt", "right alt", "left meta", "right meta", "alt gr", "caps lock", "numlock", "scroll lock", "menu"),
    *("print screen", "sys req", "break", "power", "help", "equals", "euro", "AC Back", "CurrencySubUnit"),
)
KEYS = frozenset((*LETTERS, *DIGITS, *SIGNS, *KEYPAD, *NAMED, *(f"f{number}" for number in range(1, 16))))
BUTTONS = {1: "left click", 2: "middle click", 3: "right click"}
"""Mouse buttons by their numbers."""
