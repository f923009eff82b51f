/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Words that a user taught: a table of them, which you can replace in flash, and their detection.
 *
 * A table is little-endian, and may lie at any address. kws_taught_table is the one that was exported. `kws-firmware
 * taught` writes others for the same firmware. Nothing allocates memory, and nothing is shared.
 */
#ifndef KWS_TAUGHT_H_
#define KWS_TAUGHT_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kws_config.h"
#include "kws_detector.h"
#include "kws_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The most words of a table. */
#define KWS_TAUGHT_MOST 100

/** The exported table. */
extern const uint8_t kws_taught_table[KWS_TAUGHT_TABLE_SIZE];

/** Other words, which a taught word competes with: directions of their embeddings. */
extern const int8_t kws_rivals[KWS_RIVALS][KWS_EMBEDDING_SIZE];

/** The inverse of the length of each of them. */
extern const float kws_rival_scales[KWS_RIVALS];

/** The mean of all embeddings, which is taken off. */
extern const float kws_embedding_mean[KWS_EMBEDDING_SIZE];

/** The taught words of a stream. You provide its memory, and kws_taught_open sets it up. All fields are private. */
typedef struct kws_taught {
    const uint8_t *table;           /**< The table, or NULL. */
    float threshold;                /**< Score of which a detection has a half. */
    float hysteresis;               /**< How far below what counts as heard a score must fall to be heard again. */
    uint32_t wait;                  /**< Inferences left of the refractory time. */
    uint16_t n_words;               /**< Number of words. */
    bool released[KWS_TAUGHT_MOST]; /**< Whether a word may be heard again. */
} kws_taught;

/**
 * Takes a table. It must stay where it is.
 *
 * @param taught What to set up. After an error, it is unchanged.
 * @param table The table.
 * @param size Bytes that can be read there: the table's, or more.
 * @return KWS_OK, KWS_ERR_ARGUMENT for NULL, or KWS_ERR_WORDS if there is no whole table for this encoder.
 */
kws_status kws_taught_open(kws_taught *taught, const void *table, size_t size);

/**
 * Begins a new stream.
 *
 * @param taught An open table.
 * @return KWS_OK, KWS_ERR_ARGUMENT for NULL, or KWS_ERR_STATE without a table.
 */
kws_status kws_taught_reset(kws_taught *taught);

/**
 * Returns the name of a word.
 *
 * @param taught An open table.
 * @param word Number of the word, from 0 on.
 * @return The name in UTF-8, in the table; NULL if there is no such word.
 */
const char *kws_taught_name(const kws_taught *taught, size_t word);

/**
 * Makes an embedding of length 1 of the model's second output.
 *
 * @param output The output.
 * @param embedding Receives the embedding.
 * @return KWS_OK, or KWS_ERR_ARGUMENT for NULL.
 */
kws_status kws_taught_embedding(const int8_t output[KWS_EMBEDDING_SIZE], float embedding[KWS_EMBEDDING_SIZE]);

/**
 * Tells how far a word stands out of other speech.
 *
 * @param taught An open table.
 * @param word Number of the word, from 0 on.
 * @param embedding Of kws_taught_embedding.
 * @param score Receives the score, in standard deviations of the scores of speech.
 * @return KWS_OK, KWS_ERR_ARGUMENT for NULL or if there is no such word, or KWS_ERR_STATE without a table.
 */
kws_status kws_taught_score(const kws_taught *taught, size_t word, const float embedding[KWS_EMBEDDING_SIZE],
                            float *score);

/**
 * Looks for words, after kws_detector_process of each inference.
 *
 * @param taught An open table.
 * @param detector The detector of the stream. With a wake word, taught words are its commands.
 * @param config Settings of the detector.
 * @param output The model's second output.
 * @param end Sample of the stream at which the window ends.
 * @param found Receives the taught word. Its label is KWS_N_LABELS plus its number.
 * @param detected Tells whether the detector found a keyword. Then no word is looked for. Receives whether there is a
 *     keyword or a taught word.
 * @return KWS_OK, KWS_ERR_ARGUMENT for NULL, or KWS_ERR_STATE without a table.
 */
kws_status kws_taught_process(kws_taught *taught, kws_detector_state *detector, const kws_detector_config *config,
                              const int8_t output[KWS_EMBEDDING_SIZE], uint64_t end, kws_detection *found,
                              bool *detected);

#ifdef __cplusplus
}
#endif

#endif /* KWS_TAUGHT_H_ */
