"""line.py FILE: the Modbus server on a line whose time is counted, not waited for. No wall clock is looked at.

FILE holds a JSON list of cases: {"baud", "bytes": [[microseconds after the last byte, hex], ...], "expect"}; after each
case's bytes the line is silent for 100 ms, then a good request comes. Prints, a line a case, the writes that the bytes
led to and whether that request was answered.
"""

import binascii
import json
import sys

from modbus import Server, crc16

POLL_US = 500
UNIT = 7


class Bank:
    """100 registers at 40000, of which 40010 to 40019 take values below 100."""

    base = 40000

    def __init__(self):
        self.words = [0] * 100
        self.writes = []

    def refresh(self):
        pass

    def writable(self, address):
        return 40010 <= address < 40020

    def check(self, address, value):
        return value < 100

    def write(self, address, value):
        self.words[address - self.base] = value
        self.writes.append([address, value])

    def written(self, address, count):
        pass


class Uart:
    latency_us = 0

    def __init__(self):
        self.waiting = b""
        self.sent = []

    def receive(self, buffer):
        count = min(len(buffer), len(self.waiting))
        for i in range(count):
            buffer[i] = self.waiting[i]
        self.waiting = self.waiting[count:]
        return count

    def send(self, data):
        self.sent.append(bytes(data))


def silent(server, now_us, us):
    """The loop polls on while nothing comes; the time it then is."""
    end_us = now_us + us
    while now_us < end_us:
        now_us += min(POLL_US, end_us - now_us)
        server.poll(now_us)
    return now_us


read = bytearray((UNIT, 3, 40010 >> 8, 40010 & 255, 0, 2, 0, 0))
crc = crc16(read, 6)
read[6], read[7] = crc & 255, crc >> 8

with open(sys.argv[1]) as file:
    cases = json.load(file)
for case in cases:
    uart, bank = Uart(), Bank()
    server = Server(uart, bank, UNIT, case["baud"])
    now_us = 1_000_000
    for gap_us, part in case["bytes"]:
        now_us = silent(server, now_us, gap_us)
        uart.waiting += binascii.unhexlify(part)
        server.poll(now_us)
    now_us = silent(server, now_us, 100_000)
    bank.writes = list(bank.writes)
    uart.sent = []
    for byte in read:  # as slowly as the line is
        now_us = silent(server, now_us, 11_000_000 // case["baud"])
        uart.waiting += bytes((byte,))
        server.poll(now_us)
    silent(server, now_us, 10_000)
    answered = len(uart.sent) == 1 and uart.sent[0][:3] == bytes((UNIT, 3, 4))
    print(json.dumps([bank.writes, answered]))
