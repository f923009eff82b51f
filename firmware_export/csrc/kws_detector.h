/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Detector: posteriors in, keywords out. It uses integers, and gives the same results as kws_edge.Detector.
 *
#if KWS_STATES
 * The network answers KWS_ANSWERS times an inference. Below, an inference means one of these answers.
 *
#endif /* KWS_STATES */
 * A keyword is detected when its posterior, averaged over the last KWS_SMOOTHING_STEPS inferences, is the largest of
 * all labels and reaches its threshold. In the next `refractory_steps` nothing is detected, and averaging starts anew
 * after them. Before the same keyword is detected again, its posterior must have fallen below its release level.
 *
 * After other speech, a keyword needs a higher threshold. Other speech means that the posterior of unknown words was
 * two thirds or more, averaged over the first KWS_SMOOTHING_STEPS of the last KWS_SPOKEN_STEPS inferences.
 *
 * With a wake word, any other keyword is detected only within `armed_steps` of the wake word's detection. Its detection
 * ends this time, so each wake word allows one keyword. Outside this time, a keyword leaves no trace.
 */
#ifndef KWS_DETECTOR_H_
#define KWS_DETECTOR_H_

#include <stdbool.h>
#include <stdint.h>

#include "kws_config.h"
#include "kws_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#if KWS_STATES
/** The posterior of each score, 0 to 32768 for 0 to 1: that of score q is item q + 128. */
extern const uint16_t kws_posteriors[256];

#endif /* KWS_STATES */
/** Settings: your own, or kws_detector_defaults. The detector only reads them. */
typedef struct kws_detector_config {
    /**
#if KWS_STATES
     * Smallest sum of KWS_SMOOTHING_STEPS posteriors, each in units of 1/32768, that detects a label: 1 to
     * 32768 * KWS_SMOOTHING_STEPS. 0 for a label that is not an active keyword.
#else
     * Smallest sum of KWS_SMOOTHING_STEPS posteriors, each in units of 1/256, that detects a label: 1 to
     * 255 * KWS_SMOOTHING_STEPS. 0 for a label that is not an active keyword.
#endif /* KWS_STATES */
     */
    uint32_t thresholds[KWS_N_LABELS];
    /** The same for a keyword that follows other speech. It must not be smaller. */
    uint32_t thresholds_in_speech[KWS_N_LABELS];
#if KWS_STATES
    /** Release level in 1/32768, 0 to 32768. A keyword is detected again only after its posterior was below it. */
#else
    /** Release level in 1/256, 0 to 256. A keyword is detected again only after its posterior was below this level. */
#endif /* KWS_STATES */
    uint16_t releases[KWS_N_LABELS];
    /**
     * The label to which a posterior is added: its own label, the label of unknown words for an inactive word, or
     * KWS_N_LABELS for none.
     */
    uint8_t counts_for[KWS_N_LABELS];
    /** The label of unknown words, or KWS_N_LABELS for none. */
    uint8_t unknown_label;
    /** Inferences after a detection without another detection; 0 for none. */
    uint32_t refractory_steps;
    /** The label of the wake word, or KWS_N_LABELS for none. Without a wake word, every keyword always counts. */
    uint8_t wake_label;
    /** Inferences after the wake word's detection in which another keyword may be detected; less than UINT32_MAX. */
    uint32_t armed_steps;
} kws_detector_config;

/** The settings of the model file. */
extern const kws_detector_config kws_detector_defaults;

#if KWS_SENSITIVITY_STEPS
/**
 * The settings of the sensitivities 0 (hears least), 1 / KWS_SENSITIVITY_STEPS, ... to 1. kws_app.config may point to
 * any of them while a stream runs.
 */
extern const kws_detector_config kws_detector_sensitivities[KWS_SENSITIVITY_STEPS + 1];
#endif

/** Names of the model's outputs, UTF-8. */
extern const char *const kws_labels[KWS_N_LABELS];

/** A keyword that was detected. */
typedef struct kws_detection {
    const char *keyword; /**< One of kws_labels, or a taught word. */
    uint8_t label;       /**< Index of the keyword, below KWS_N_LABELS; of a taught word, not below it. */
    bool wake;           /**< Whether the keyword is the wake word. */
    float score;         /**< Smoothed posterior, 0 to 1. */
    uint64_t start;      /**< First sample in the stream of the window that decided. The word lies in this window. */
    uint64_t end;        /**< Sample at which that window ends: the time of the decision. */
} kws_detection;

/** A stream's detector. You provide its memory, and kws_detector_reset sets it up. All fields are private. */
typedef struct kws_detector_state {
    uint32_t wait;   /**< Inferences left of the refractory time. */
    uint32_t armed;  /**< Inferences left of the wake word's window, including the present one; 0 without a window. */
    uint16_t filled; /**< Inferences since averaging began, at most KWS_SMOOTHING_STEPS. */
    uint16_t next;   /**< Next row of `history`. */
    uint16_t oldest; /**< Oldest item of `spoken`. */
#if KWS_STATES
    uint32_t spoken[KWS_SPOKEN_STEPS];                   /**< Latest posteriors of unknown words, 1/32768. */
    uint32_t history[KWS_SMOOTHING_STEPS][KWS_N_LABELS]; /**< The latest posteriors, 1/32768. */
#else
    uint16_t spoken[KWS_SPOKEN_STEPS];                   /**< Latest posteriors of unknown words, 1/256. */
    uint16_t history[KWS_SMOOTHING_STEPS][KWS_N_LABELS]; /**< The latest posteriors, 1/256. */
#endif /* KWS_STATES */
    bool released[KWS_N_LABELS];                         /**< Whether a label may be detected again. */
} kws_detector_state;

/**
 * Forgets everything. The next posteriors are the first ones of a new stream.
 *
 * @param state The detector to set up.
 * @return KWS_OK, or KWS_ERR_ARGUMENT for NULL.
 */
kws_status kws_detector_reset(kws_detector_state *state);

/**
#if KWS_STATES
 * Takes one of the answers of an inference.
#else
 * Takes the model's output for one window.
#endif /* KWS_STATES */
 *
 * @param state The detector of the stream.
 * @param config Settings.
#if KWS_STATES
 * @param posteriors KWS_N_LABELS scores, which kws_posteriors turns into posteriors.
#else
 * @param posteriors KWS_N_LABELS values, (q + 128) / 256 each.
#endif /* KWS_STATES */
#if KWS_STATES
 * @param end Sample of the stream at which the inference's frames end.
#else
 * @param end Sample of the stream at which the window ends.
#endif /* KWS_STATES */
 * @param found Receives the detected keyword. Without a detection it stays unchanged.
 * @param detected Receives whether a keyword was detected.
 * @return KWS_OK, or KWS_ERR_ARGUMENT for NULL.
 */
kws_status kws_detector_process(kws_detector_state *state, const kws_detector_config *config,
                                const int8_t posteriors[KWS_N_LABELS], uint64_t end, kws_detection *found,
                                bool *detected);

#ifdef __cplusplus
}
#endif

#endif /* KWS_DETECTOR_H_ */
