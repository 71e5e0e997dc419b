"""Runs the seed's Python sample as it is: gives it the `os` that it does not import, and a bot's logic."""
import os
import sys
import threading

go_on = threading.Event()


def handle_update(update):
    if update == "hold":
        go_on.wait()
    elif update == "fail":
        raise RuntimeError("the bot's logic failed")


world = {"os": os, "handle_update": handle_update}
with open(sys.argv[1], encoding="utf-8") as sample:
    exec(compile(sample.read(), sys.argv[1], "exec"), world)
process_message = world["process_message"]

held = [threading.Thread(target=process_message, args=("hold",)) for _ in range(3)]
for thread in held:
    thread.start()
sys.stdin.read()
go_on.set()
for thread in held:
    thread.join()
for _ in range(20):
    process_message("short")
try:
    process_message("fail")
    sys.exit("the failure was swallowed")
except RuntimeError:
    pass
