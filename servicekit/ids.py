"""Patterns of ids and symbols from outside, validated before any use.

`..` as a user id would change the path of a call to another service, even if it is quoted.
"""

import re

ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
ID_RULE = "must be 1 to 64 letters, digits, _ or -"
SYMBOL = re.compile(r"[A-Z][A-Z0-9.-]{0,11}", re.ASCII)
SYMBOL_RULE = "must be a capital letter and up to 11 more capital letters, digits, . or -"
