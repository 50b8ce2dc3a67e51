"""heap.py RATE CYCLES: bytes that the whole cycle takes from the heap, with the collector off. MicroPython only.

A cycle is a hop of samples, its estimate, its registers, the relay's law, and a request that is answered.
"""

import gc
import json
import sys
import time

import relay  # the whole program is loaded, as on a board
import settings
from calibration import Calibration
from estimator import Estimator
from fixed import sines
from modbus import Server, crc16
from sunspec import BASE, FAST, Bank

RATE = int(sys.argv[1])


class Uart:
    latency_us = 0

    def __init__(self, request):
        self.request = request
        self.asked = False
        self.answers = 0

    def receive(self, buffer):
        if not self.asked:
            return 0
        self.asked = False
        for i in range(len(self.request)):
            buffer[i] = self.request[i]
        return len(self.request)

    def send(self, data):
        self.answers += 1


class Listener:
    def clock(self, high, low):
        pass

    def manual(self, mode, seconds):
        pass

    def update_begin(self, size, crc):
        pass

    def update_chunk(self, offset, data):
        pass

    def update_command(self, number):
        pass


request = bytearray(8)
for i, byte in enumerate((1, 3, (BASE + FAST) >> 8, (BASE + FAST) & 255, 0, 26)):
    request[i] = byte
crc = crc16(request, 6)
request[6] = crc & 255
request[7] = crc >> 8
given = settings.load(None)
estimator = Estimator(RATE, 50)
bank = Bank("relay", "1", "1", 1, 50, True, Listener())
law = relay.make_law(given, 1)
uart = Uart(request)
server = Server(uart, bank, 1, 115200)
calibration = Calibration(0)
hop = estimator.hop


def cycle(phase, step, size):
    samples = estimator.samples
    for i in range(hop):
        samples[estimator.at + i] = 32768 + (sines[phase >> 20] - 32768) * size
        phase = (phase + step) & 0x3FFFFFFF
    calibration.hop()
    if estimator.advance():
        bank.publish(estimator, 19000, 1)
        law.step(estimator.frequency_uhz, estimator.good, 600, 20)
        bank.show_relay(law, 600)
    uart.asked = True
    server.poll(0)
    server.poll(4000)
    return phase


step = (1 << 30) // RATE * 50
phase = 0
for _ in range(60):
    phase = cycle(phase, step, 1)


def measure(cycles, phase):
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    start = time.ticks_us()
    for n in range(cycles):
        # Now and then a lower frequency, and a dead line
        phase = cycle(phase, step - (step >> 5 if n % 400 > 300 else 0), 0 if n % 1000 > 980 else 1)
    took_us = time.ticks_diff(time.ticks_us(), start)
    after = gc.mem_alloc()
    gc.enable()
    return {"bytes": after - before, "heap": before, "cycle_us": took_us // cycles}


found = measure(int(sys.argv[2]), phase)
found["answers"] = uart.answers
found["switched"] = law.switched
print(json.dumps(found))
