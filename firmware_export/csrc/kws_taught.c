/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_taught.h"

#include <math.h>
#include <string.h>

#define MAGIC 0x5754574bu /* "KWTW" */
#define VERSION 1u

/* Offsets in a table, and in the record of a word. The checksum is of all bytes behind it. */
enum { CHECKSUM = 4, SIZE = 8, FORM = 12, COUNT = 14, ENCODER = 16, THRESHOLD = 20, HYSTERESIS = 24, WORDS = 28 };
enum { NAME = 0, SAME = 4, N_SAME = 8, MEAN = 12, DEVIATION = 16, HEARD = 20, PROTOTYPE = 24 };
#define RECORD (PROTOTYPE + 4u * KWS_EMBEDDING_SIZE)

/* How many rivals count, the share of their mean cosine that is taken off, and the least mean. */
#define NEAREST 5
#define SHARE 0.7f
#define LEAST_RIVALRY 0.3f

static uint32_t u16(const uint8_t *at) { return (uint32_t)at[0] | (uint32_t)at[1] << 8; }

static uint32_t u32(const uint8_t *at) { return u16(at) | u16(at + 2) << 16; }

static float f32(const uint8_t *at) {
    const uint32_t bits = u32(at);
    float value;
    (void)memcpy(&value, &bits, sizeof value);
    return value;
}

/* The CRC-32 of IEEE 802.3, bit by bit, because a table is read once. */
static uint32_t crc32(const uint8_t *bytes, size_t n) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1u) != 0 ? 0xedb88320u : 0u);
        }
    }
    return ~crc;
}

static const uint8_t *record(const uint8_t *table, size_t word) { return table + WORDS + RECORD * word; }

/* Whether all that a word points to lies in the table, of `size` bytes. */
static bool is_whole(const uint8_t *table, uint32_t size, const uint8_t *word) {
    const uint32_t name = u32(word + NAME), same = u32(word + SAME), n_same = u32(word + N_SAME);
    if (name >= size || memchr(table + name, 0, size - name) == NULL) {
        return false;
    }
    return same <= size && n_same <= (size - same) / 2u && f32(word + DEVIATION) > 0.0f;
}

static bool is_table(const uint8_t *table, size_t size) {
    if (size < WORDS || u32(table) != MAGIC || u16(table + FORM) != VERSION || u32(table + ENCODER) != KWS_ENCODER_ID) {
        return false;
    }
    const uint32_t used = u32(table + SIZE), n_words = u16(table + COUNT);
    if (used > size || n_words > KWS_TAUGHT_MOST || used < WORDS + RECORD * n_words) {
        return false;
    }
    if (crc32(table + SIZE, used - SIZE) != u32(table + CHECKSUM)) {
        return false;
    }
    for (uint32_t word = 0; word < n_words; word++) {
        if (!is_whole(table, used, record(table, word))) {
            return false;
        }
    }
    return true;
}

kws_status kws_taught_open(kws_taught *taught, const void *table, size_t size) {
    if (taught == NULL || table == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    const uint8_t *const bytes = table;
    if (!is_table(bytes, size)) {
        return KWS_ERR_WORDS;
    }
    taught->table = bytes;
    taught->n_words = (uint16_t)u16(bytes + COUNT);
    taught->threshold = f32(bytes + THRESHOLD);
    taught->hysteresis = f32(bytes + HYSTERESIS);
    return kws_taught_reset(taught);
}

kws_status kws_taught_reset(kws_taught *taught) {
    if (taught == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    if (taught->table == NULL) {
        return KWS_ERR_STATE;
    }
    taught->wait = 0;
    for (int word = 0; word < KWS_TAUGHT_MOST; word++) {
        taught->released[word] = true;
    }
    return KWS_OK;
}

const char *kws_taught_name(const kws_taught *taught, size_t word) {
    if (taught == NULL || taught->table == NULL || word >= taught->n_words) {
        return NULL;
    }
    return (const char *)taught->table + u32(record(taught->table, word) + NAME);
}

kws_status kws_taught_embedding(const int8_t output[KWS_EMBEDDING_SIZE], float embedding[KWS_EMBEDDING_SIZE]) {
    if (output == NULL || embedding == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    float square = 0.0f;
    for (int i = 0; i < KWS_EMBEDDING_SIZE; i++) {
        embedding[i] = (float)(output[i] - KWS_EMBEDDING_ZERO_POINT) * KWS_EMBEDDING_SCALE - kws_embedding_mean[i];
        square += embedding[i] * embedding[i];
    }
    const float length = sqrtf(square) + 1e-9f;
    for (int i = 0; i < KWS_EMBEDDING_SIZE; i++) {
        embedding[i] /= length;
    }
    return KWS_OK;
}

/* Whether a rival is the word itself. The list of a word is ascending; `at` is its next item. */
static bool is_same(const uint8_t *list, uint32_t n, uint32_t *at, uint32_t rival) {
    if (*at < n && u16(list + 2u * *at) == rival) {
        ++*at;
        return true;
    }
    return false;
}

/* Keeps the largest values, the smallest of them first. */
static void keep(float nearest[NEAREST], float value) {
    if (value <= nearest[0]) {
        return;
    }
    int i = 0;
    for (; i + 1 < NEAREST && nearest[i + 1] < value; i++) {
        nearest[i] = nearest[i + 1];
    }
    nearest[i] = value;
}

/* What is taken from the cosine of a word. */
static float penalty(const uint8_t *table, const uint8_t *word, const float *embedding) {
    float nearest[NEAREST], sum = 0.0f;
    const uint8_t *const same = table + u32(word + SAME);
    const uint32_t n_same = u32(word + N_SAME);
    uint32_t at = 0;
    for (int i = 0; i < NEAREST; i++) {
        nearest[i] = -1.0f;
    }
    for (uint32_t rival = 0; rival < KWS_RIVALS; rival++) {
        if (!is_same(same, n_same, &at, rival)) {
            float product = 0.0f;
            for (int i = 0; i < KWS_EMBEDDING_SIZE; i++) {
                product += (float)kws_rivals[rival][i] * embedding[i];
            }
            keep(nearest, product * kws_rival_scales[rival]);
        }
    }
    for (int i = 0; i < NEAREST; i++) {
        sum += nearest[i];
    }
    const float mean = sum / (float)NEAREST;
    return SHARE * (mean > LEAST_RIVALRY ? mean : LEAST_RIVALRY);
}

static float cosine(const uint8_t *word, const float *embedding) {
    float product = 0.0f;
    for (uint32_t i = 0; i < KWS_EMBEDDING_SIZE; i++) {
        product += f32(word + PROTOTYPE + 4u * i) * embedding[i];
    }
    return product;
}

/* The score of a word of this cosine, after `taken` was taken off. */
static float scored(const uint8_t *word, float near, float taken) {
    return (near - taken - f32(word + MEAN)) / f32(word + DEVIATION);
}

kws_status kws_taught_score(const kws_taught *taught, size_t word, const float embedding[KWS_EMBEDDING_SIZE],
                            float *score) {
    if (taught == NULL || embedding == NULL || score == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    if (taught->table == NULL) {
        return KWS_ERR_STATE;
    }
    if (word >= taught->n_words) {
        return KWS_ERR_ARGUMENT;
    }
    const uint8_t *const one = record(taught->table, word);
    *score = scored(one, cosine(one, embedding), penalty(taught->table, one, embedding));
    return KWS_OK;
}

/* The word that is heard now, and its score; or the number of words. It is furthest above what counts as heard. */
static uint32_t best(kws_taught *taught, const float *embedding, float *score_of_it) {
    uint32_t found = taught->n_words;
    float largest = 0.0f;
    for (uint32_t i = 0; i < taught->n_words; i++) {
        const uint8_t *const word = record(taught->table, i);
        const float heard = f32(word + HEARD), release = heard - taught->hysteresis, near = cosine(word, embedding);
        /* Below its release, no penalty is small enough for a word to be heard. */
        float score = scored(word, near, SHARE * LEAST_RIVALRY);
        if (score >= release) {
            score = scored(word, near, penalty(taught->table, word, embedding));
        }
        if (score < release) {
            taught->released[i] = true;
        }
        if (score >= heard && score - heard >= largest) {
            found = i;
            largest = score - heard;
            *score_of_it = score;
        }
    }
    return found < taught->n_words && taught->released[found] ? found : taught->n_words;
}

/* Whether words are to be looked for at this inference. */
static bool is_due(kws_taught *taught, const kws_detector_config *config, uint64_t end, bool detected) {
    if (detected) {
        taught->wait = config->refractory_steps;
        return false;
    }
    if (taught->wait != 0) {
        taught->wait--;
        return false;
    }
    return end / (KWS_STEP_FRAMES * KWS_HOP_LENGTH) % KWS_TAUGHT_EVERY == 0;
}

kws_status kws_taught_process(kws_taught *taught, kws_detector_state *detector, const kws_detector_config *config,
                              const int8_t output[KWS_EMBEDDING_SIZE], uint64_t end, kws_detection *found,
                              bool *detected) {
    float embedding[KWS_EMBEDDING_SIZE], score = 0.0f;
    if (taught == NULL || detector == NULL || config == NULL || output == NULL || found == NULL || detected == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    if (taught->table == NULL) {
        return KWS_ERR_STATE;
    }
    if (!is_due(taught, config, end, *detected)) {
        return KWS_OK;
    }
    (void)kws_taught_embedding(output, embedding);
    const uint32_t word = best(taught, embedding, &score);
    if (word == taught->n_words || (config->wake_label < KWS_N_LABELS && detector->armed == 0)) {
        return KWS_OK;
    }
    detector->armed = 0;
    taught->released[word] = false;
    taught->wait = config->refractory_steps;
    found->keyword = kws_taught_name(taught, word);
    found->label = (uint8_t)(KWS_N_LABELS + word);
    found->wake = false;
    found->score = 1.0f / (1.0f + expf(taught->threshold - score));
    found->start = end > KWS_CLIP_SAMPLES ? end - KWS_CLIP_SAMPLES : 0;
    found->end = end;
    *detected = true;
    return KWS_OK;
}
