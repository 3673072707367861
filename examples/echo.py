"""The smallest server: it answers everything, in every protocol, with its own bytes.

photinus run examples/echo.py --listen tcp://127.0.0.1:7000 \
    --listen 'tcp://127.0.0.1:7001?protocol=length4' --listen 'tcp://127.0.0.1:7002?protocol=firefly'
"""

from photinus import App, Routes, Session

routes = Routes()


@routes.on("echo", public=True)  # for protocols with routes
def echo(session: Session, body: bytes) -> bytes:
    return body


@routes.default  # for those without, and for Firefly's commands, whatever their number
def anything(session: Session, body: bytes) -> bytes:
    return body


app = App("echo", routes=[routes])
