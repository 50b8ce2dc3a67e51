"""The estimator's loops over samples, as machine code: they touch nothing but the arrays that they are given.

Each takes its parameters as an array `p`, because a viper function has at most four arguments.
"""

import micropython


@micropython.viper
def mix(samples, p, out, table, sign: int) -> int:
    """One pass: blocks of the window, less direct current and the sine (p[6], p[7]), mixed with the carrier.

    `out` receives the blocks' real, then imaginary parts. Returns the sum of squares of what was left / 256.
    """
    samples_ = ptr16(samples)
    p_ = ptr32(p)
    out_ = ptr32(out)
    table_ = ptr16(table)
    blocks = p_[0]
    width = p_[1]
    size = p_[2]
    at = p_[3]
    step = p_[4]
    # The carrier's phase is zero in the middle, which lies between two samples.
    half = (size - 1) >> 1
    back = (step & 0x7FFF) * half + ((((step >> 15) * half) & 0x7FFF) << 15) + (step >> 1)
    phase = (0 - back) & 0x3FFFFFFF
    cosine = (p_[6] << sign) >> sign
    sine = (p_[7] << sign) >> sign
    shift = p_[8]
    limit = p_[9]
    middle = p_[10]
    thin = p_[5]
    evenly = (1 << shift) >> 1  # rounding down would be a vector that turns with the signal's phase
    energy = 0
    for block in range(blocks):
        real = 0
        imaginary = 0
        for _ in range(width):
            i = phase >> 20
            fraction = (phase >> 10) & 1023
            s0 = int(table_[i])
            s = s0 - 32768 + (((int(table_[i + 1]) - s0) * fraction) >> 10)
            c0 = int(table_[i + 256])
            c = c0 - 32768 + (((int(table_[i + 257]) - c0) * fraction) >> 10)
            left = int(samples_[at]) - middle - ((cosine * c - sine * s) >> 14)
            if left > limit:
                left = limit
            if left < 0 - limit:
                left = 0 - limit
            small = left >> thin
            energy = energy + ((small * small) >> 8)
            real = real + ((left * c + evenly) >> shift)
            imaginary = imaginary - ((left * s + evenly) >> shift)
            phase = (phase + step) & 0x3FFFFFFF
            at = at + 1
            if at == size:
                at = 0
        out_[block] = real
        out_[blocks + block] = imaginary
    return energy


@micropython.viper
def slope(blocks, p, result, sign: int):
    """Averages over a period of p[1] + p[2] / 256 blocks; result: first moment (real, imaginary), then sum.

    p[4] is the weight that the first and the last p[5] averages have beside that of their place.
    """
    blocks_ = ptr32(blocks)
    p_ = ptr32(p)
    result_ = ptr32(result)
    count = p_[0]
    whole = p_[1]
    part = p_[2]
    down = p_[3]
    ends = p_[4]
    spread = p_[5]
    length = count - whole
    for half in range(2):
        base = half * count
        running = 0
        for i in range(whole):
            running = running + ((blocks_[base + i] << sign) >> sign)
        first = 0
        total = 0
        for b in range(length):
            nextone = (blocks_[base + b + whole] << sign) >> sign
            mean = running + ((nextone * part) >> 8)
            weight = b + b - length + 1
            if b < spread:
                weight = weight - ends
            if b >= length - spread:
                weight = weight + ends
            first = first + ((mean + 2) >> 2) * weight
            total = total + mean
            running = running + nextone - ((blocks_[base + b] << sign) >> sign)
        result_[half] = first >> down
        result_[2 + half] = total
    result_[4] = length


@micropython.viper
def hop_sums(blocks, p, result, sign: int):
    """The blocks of each hop added up: real parts, then imaginary ones; p: blocks, blocks a hop."""
    blocks_ = ptr32(blocks)
    p_ = ptr32(p)
    result_ = ptr32(result)
    count = p_[0]
    each = p_[1]
    hops = count // each
    for half in range(2):
        for hop in range(hops):
            sum = 0
            base = half * count + hop * each
            for i in range(each):
                sum = sum + ((blocks_[base + i] << sign) >> sign)
            result_[half * hops + hop] = sum


@micropython.viper
def survey(samples, p, result):
    """Mean, and how many samples stand at an end of the converter's range; p: count, lowest, highest."""
    samples_ = ptr16(samples)
    p_ = ptr32(p)
    result_ = ptr32(result)
    count = p_[0]
    lowest = p_[1]
    highest = p_[2]
    sum = 0
    clipped = 0
    for i in range(count):
        x = int(samples_[i])
        sum = sum + x
        if x <= lowest:
            clipped = clipped + 1
        if x >= highest:
            clipped = clipped + 1
    result_[0] = sum
    result_[1] = clipped


@micropython.viper
def crossings(samples, p, result):
    """Upward zero crossings with hysteresis: how many, the first and the last, in 1/64 sample."""
    samples_ = ptr16(samples)
    p_ = ptr32(p)
    result_ = ptr32(result)
    count = p_[0]
    at = p_[1]
    middle = p_[2]
    hysteresis = p_[3]
    armed = 0
    found = 0
    previous = 0
    for i in range(count):
        x = int(samples_[at]) - middle
        at = at + 1
        if at == count:
            at = 0
        if x < 0 - hysteresis:
            armed = 1
        if armed != 0 and x >= 0:
            where = (i << 6) - (x << 6) // (x - previous)
            if found == 0:
                result_[1] = where
            result_[2] = where
            found = found + 1
            armed = 0
        previous = x
    result_[0] = found
