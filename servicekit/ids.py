"""Names that come from outside, allow-listed before anything is done with them.

`..` as a user id would rewrite the path of a call to another service, even quoted.
"""

import re

ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
ID_RULE = "must be 1 to 64 letters, digits, _ or -"
SYMBOL = re.compile(r"[A-Z][A-Z0-9.-]{0,11}", re.ASCII)
SYMBOL_RULE = "must be a capital letter and up to 11 more capital letters, digits, . or -"
