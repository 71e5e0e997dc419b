"""A mail server for the tests: aiosmtpd with TLS and authentication on a free port of loopback.

    mail_server.py MODE CERT KEY      MODE is starttls, implicit or none

Prints its port, then every message that it takes, one JSON object a line. A recipient `refuse-550@…` is answered with
that status. A wrong password is sent back in the refusal, as careless servers do.
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

USER, PASSWORD = "alerts", "hunter2-of-the-mailbox"


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address.startswith("refuse-"):
            return f"{address[7:10]} 4.7.1 as asked for"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = {
            "encrypted": session.ssl is not None,
            "user": session.auth_data.login.decode() if session.auth_data else None,
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "message": envelope.content.decode(),
        }
        print(json.dumps(message), flush=True)
        return "250 OK queued"


def authenticate(server, session, envelope, mechanism, data):
    password = data.password.decode()
    if data.login.decode() == USER and password == PASSWORD:
        return AuthResult(success=True, auth_data=data)
    return AuthResult(success=False, handled=False, message=f"535 5.7.8 not {password}")


async def main(mode, cert, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    common = {"hostname": "mail.test", "authenticator": authenticate, "auth_required": mode != "none"}

    def session():
        if mode == "starttls":
            return SMTP(Handler(), tls_context=context, require_starttls=True, **common)
        return SMTP(Handler(), auth_require_tls=False, **common)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, "127.0.0.1", 0, ssl=context if mode == "implicit" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
