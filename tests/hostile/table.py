"""What hostile peers do, and what they must get. One row per form; the numbers are the classes.

To be read like a list: number, title, where it begins (tcp: nothing sent yet; clear: stream opened
without TLS; tls: stream opened under TLS; authenticated; bound; managed: with XEP-0198), then what
is sent and what must come back. See steps.py for the words.
"""

from rows_session import ROWS as SESSION
from rows_login import ROWS as LOGIN
from rows_xml import ROWS as XML

ROWS = sorted(XML + LOGIN + SESSION, key=lambda row: row.number)
