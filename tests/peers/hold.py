"""Takes and frees a lock by redlock-py: hold.py LOG COUNT RESOURCE URL…"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.environ["REDLOCK_TEST_PEERS"], "python"))
from redlock import Redlock

log, count, resource, *urls = sys.argv[1:]
redlock = Redlock([{"host": host, "port": int(port)} for host, port in (u[8:].split(":") for u in urls)], retry_count=1)


def say(what):
    with open(log, "a") as file:
        file.write(f"{what} python {os.getpid()}\n")


for _ in range(int(count)):
    while not (lock := redlock.lock(resource, 5_000)):
        time.sleep(0.02)
    say("enter")
    time.sleep(0.003)
    say("leave")
    redlock.unlock(lock)
    time.sleep(0.02)  # or nobody else would get a turn
