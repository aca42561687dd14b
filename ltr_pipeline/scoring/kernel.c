/* Scores trees by bit vectors, as forest.py describes it, LANES rows at once.

   The compiler turns the vectors into the widest instructions that it is told of, so this source is compiled once per
   instruction set (deploy/kernel.py), and kernel.py takes the widest that the processor has. */

#include <stdint.h>
#include <string.h>

#ifndef LANES
#define LANES 4
#endif

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Words __attribute__((vector_size(4 * LANES)));

/* A tree has `words` masks of 32 leaves each. Splits stand feature by feature, their thresholds rising. */
typedef struct {
    int32_t trees, words, features;
    const int32_t *column;                       /* of each feature: where it is in a row */
    const int32_t *first, *first_missing;        /* of each feature: its first split; one more ends the last feature's */
    const float *threshold;                      /* of each split */
    const int32_t *word, *mask;                  /* which word it rules leaves out of, and the leaves that stay */
    const int32_t *missing_word, *missing_mask;  /* the same for splits that send a missing value right */
    const double *leaves;                        /* of each tree, from left to right, 32 a word */
} Forest;

/* Writes the scores of `count` rows of `width` features; `room` holds trees * words + 1 times LANES numbers. */
void score(const Forest *forest, const float *rows, int64_t count, int64_t width, double *scores, int32_t *room) {
    const int32_t words = forest->words, all = forest->trees * words;
    const int32_t *restrict word = forest->word, *restrict mask = forest->mask;
    const float *restrict threshold = forest->threshold;
    Words *restrict possible = (Words *)(((uintptr_t)room + sizeof(Words) - 1) & ~(uintptr_t)(sizeof(Words) - 1));

    for (int64_t row = 0; row < count; row += LANES) {
        const int here = count - row < LANES ? (int)(count - row) : LANES;
        memset(possible, 0xff, sizeof(Words) * all);
        for (int32_t f = 0; f < forest->features; f++) {
            const float *value = rows + row * width + forest->column[f];
            Floats column;
            float highest = -__builtin_inff();
            int missing = 0;
            for (int lane = 0; lane < LANES; lane++) { /* the first row stands in where there are no more */
                const float it = value[(lane < here ? lane : 0) * width];
                column[lane] = it;
                highest = it > highest ? it : highest;
                missing |= it != it;
            }
            for (int32_t s = forest->first[f]; s < forest->first[f + 1] && highest > threshold[s]; s++)
                possible[word[s]] &= ~(column > threshold[s]) | mask[s];
            if (missing)
                for (int32_t s = forest->first_missing[f]; s < forest->first_missing[f + 1]; s++)
                    possible[forest->missing_word[s]] &= (column == column) | forest->missing_mask[s];
        }
        double sum[LANES] = {0};
        for (int32_t w = 0; w < all; w += words)
            for (int lane = 0; lane < LANES; lane++) {
                int32_t at = w; /* the leftmost possible leaf: one always is */
                while (!possible[at][lane]) at++;
                sum[lane] += forest->leaves[(int64_t)at * 32 + __builtin_ctz((uint32_t)possible[at][lane])];
            }
        memcpy(scores + row, sum, sizeof(double) * here);
    }
}

/* The widest LANES that this processor, and its system, have instructions for; asked of the narrowest library. */
int32_t widest(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return 16;
    if (__builtin_cpu_supports("avx2")) return 8;
#endif
    return 4;
}
