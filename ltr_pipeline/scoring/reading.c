/* Reads candidates' features from JSON into rows of float32, and writes lists of them as objects (reading.py).

   Texts stand one after the other, each ended by a NUL, which is no part of JSON: whatever a text holds, no loop passes
   it. Only what is plain is taken here. An unknown name, an escape, a number that would need exact arithmetic and every
   error are left to the caller, who reads that candidate again, with care. */

#include <stdint.h>
#include <string.h>

static const double POWERS[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31,
    1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41, 1e42, 1e43, 1e44, 1e45, 1e46, 1e47,
    1e48, 1e49, 1e50, 1e51, 1e52, 1e53, 1e54, 1e55, 1e56, 1e57, 1e58, 1e59, 1e60, 1e61, 1e62, 1e63};

static int is_digit(char it) { return it >= '0' && it <= '9'; }

static const char *space(const char *at) {
    while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t') at++;
    return at;
}

/* Reads digits behind those that were read, and returns where they end; zeros before the first other one do not count. */
static const char *more_digits(const char *at, uint64_t *digits, int64_t *count) {
    for (; is_digit(*at); at++) {
        *digits = *digits * 10 + (uint64_t)(*at - '0');
        *count += *count > 0 || *digits > 0; /* of 2^64, which comes out as 0, too */
    }
    return at;
}

/* Reads a number, or null as NaN; returns where it ends, or 0.

   The double is off by three roundings at most, less than 2^-50 of it. Where both ends of that range are the same
   float32, the exact double rounds to it, too. */
static const char *number(const char *at, float *found) {
    if (*at == 'n') {
        *found = __builtin_nanf("");
        return strncmp(at, "null", 4) ? 0 : at + 4;
    }
    const int negative = *at == '-';
    const char *first = at += negative;
    uint64_t digits = 0;
    int64_t count = 0, exponent = 0;
    at = more_digits(at, &digits, &count);
    if (at == first || (at - first > 1 && *first == '0')) return 0;
    if (*at == '.') {
        const char *point = at + 1;
        at = more_digits(point, &digits, &count);
        exponent = point - at;
        if (exponent == 0) return 0;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        const int down = *at == '-';
        if (*at == '-' || *at == '+') at++;
        if (!is_digit(*at)) return 0;
        int64_t power = 0;
        for (; is_digit(*at); at++)
            if (power < 1000) power = power * 10 + (*at - '0');
        exponent += down ? -power : power;
    }
    if (count > 19 || exponent < -63 || exponent > 63) return 0;
    const double value = exponent < 0 ? (double)digits / POWERS[-exponent] : (double)digits * POWERS[exponent];
    if (value > 3e38) return 0;
    const float low = (float)(value * (1 - 0x1p-50)), high = (float)(value * (1 + 0x1p-50));
    *found = negative ? -low : low;
    return low == high ? at : 0;
}

/* Returns what follows the name, with its quote, in the text; 0 where it is another. */
static const char *behind(const char *name, const char *at) {
    for (; *name; name++, at++)
        if (*at != *name) return 0;
    return at;
}

static const char *object(const char *at, int64_t features, const char *names, const int32_t *starts, int32_t *order,
                          float *row) {
    at = space(at + 1);
    if (*at == '}') return at + 1;
    for (int64_t key = 0; key < features; key++) {
        if (*at != '"') return 0;
        int32_t column = order[key];
        const char *end = behind(names + starts[column], at + 1);
        if (!end) { /* in another order than the candidate before; so may be the next one */
            for (column = 0; column < features && !end; column++) end = behind(names + starts[column], at + 1);
            if (!end) return 0;
            order[key] = --column;
        }
        at = space(end);
        if (*at != ':') return 0;
        at = number(space(at + 1), row + column);
        if (!at) return 0;
        at = space(at);
        if (*at == '}') return at + 1;
        if (*at != ',') return 0;
        at = space(at + 1);
    }
    return 0;
}

static const char *list(const char *at, int64_t features, float *row) {
    for (int64_t column = 0; column < features; column++) {
        at = number(space(at + 1), row + column);
        if (!at) return 0;
        at = space(at);
        if (*at != (column + 1 < features ? ',' : ']')) return 0;
    }
    return at + 1;
}

/* Reads `rows` texts into the matrix, NaN where a feature is missing; `careful` marks those that are left to the caller.

   `names` has each feature's name with its closing quote and a NUL, at its place in `starts`; `order` has the column
   that each key of an object is expected to be. Returns the bytes it read: fewer than there are, where a text has a NUL
   of its own. */
int64_t read_rows(const char *texts, int64_t rows, int64_t features, const char *names, const int32_t *starts,
                  int32_t *order, float *matrix, uint8_t *careful) {
    const char *text = texts;
    for (int64_t row = 0; row < rows; row++, matrix += features) {
        for (int64_t column = 0; column < features; column++) matrix[column] = __builtin_nanf("");
        const char *at = space(text), *end = 0;
        if (*at == '{') end = object(at, features, names, starts, order, matrix);
        if (*at == '[') end = list(at, features, matrix);
        end = end ? space(end) : text;
        careful[row] = end == text || *end;
        text = end + strlen(end) + 1;
    }
    return text - texts;
}

/* Writes `rows` lists as objects, each with a NUL behind it; returns their length, -1 where a text is no such list.

   `keys` has what stands before each value, at its place in `starts`, where the end of the last one is, too. */
int64_t write_objects(const char *texts, int64_t rows, int64_t features, const char *keys, const int32_t *starts,
                      char *objects) {
    char *to = objects;
    for (int64_t row = 0; row < rows; row++, texts += strlen(texts) + 1) {
        if (*texts != '[') return -1;
        const char *at = texts;
        for (int64_t column = 0; column < features; column++) {
            const int32_t size = starts[column + 1] - starts[column];
            memcpy(to, keys + starts[column], (size_t)size);
            to += size;
            for (at++; *at && *at != ',' && *at != ']'; at++) *to++ = *at;
            if (*at != (column + 1 < features ? ',' : ']')) return -1;
        }
        if (at[1]) return -1;
        *to++ = '}';
        *to++ = 0;
    }
    return to - objects;
}
