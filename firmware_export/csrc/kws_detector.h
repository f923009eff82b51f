/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Detector: posteriors in, keywords out, as kws_edge.Detector does it, in integers and with the same results.
 *
 * A keyword is detected when its posterior, averaged over the last KWS_SMOOTHING_STEPS inferences, is the largest of
 * all labels and reaches its threshold. For `refractory_steps` after that nothing is detected, and averaging starts
 * anew at its end. The same keyword must also have fallen below its release level since.
 *
 * One that follows other speech needs more. Where unknown words have two thirds of the posteriors or more, on average
 * over the first KWS_SMOOTHING_STEPS of the last KWS_SPOKEN_STEPS inferences, another threshold holds.
 *
 * With a wake word, any other keyword is detected only within `armed_steps` of the wake word's detection, and ends that
 * time: one for each wake word. Outside of it, it leaves no trace.
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

/** Settings. Yours, or kws_detector_defaults; the detector only reads them. */
typedef struct kws_detector_config {
    /**
     * Smallest sum of KWS_SMOOTHING_STEPS posteriors, each in units of 1/256, that detects a label: 1 to
     * 255 * KWS_SMOOTHING_STEPS. 0 for a label that is no active keyword.
     */
    uint32_t thresholds[KWS_N_LABELS];
    /** The same where a keyword follows other speech; no less. */
    uint32_t thresholds_in_speech[KWS_N_LABELS];
    /** A keyword may be detected again after its posterior, in 1/256, has been below this: 0 to 256. */
    uint16_t releases[KWS_N_LABELS];
    /**
     * The label that a posterior counts for: its own, that of unknown words for an inactive word, or KWS_N_LABELS for
     * none.
     */
    uint8_t counts_for[KWS_N_LABELS];
    /** The label of unknown words, or KWS_N_LABELS for none. */
    uint8_t unknown_label;
    /** Inferences after a detection during which there is no other; 0 for none. */
    uint32_t refractory_steps;
    /** The label of the wake word, or KWS_N_LABELS for none: every keyword always counts. */
    uint8_t wake_label;
    /** Inferences after the wake word's detection of which one may detect another keyword; less than UINT32_MAX. */
    uint32_t armed_steps;
} kws_detector_config;

/** The settings of the model file. */
extern const kws_detector_config kws_detector_defaults;

/** Names of the model's outputs, UTF-8. */
extern const char *const kws_labels[KWS_N_LABELS];

/** A keyword that was detected. */
typedef struct kws_detection {
    const char *keyword; /**< One of kws_labels. */
    uint8_t label;       /**< Its index, below KWS_N_LABELS. */
    bool wake;           /**< Whether it is the wake word. */
    float score;         /**< Smoothed posterior, 0 to 1. */
    uint64_t start;      /**< Sample of the stream at which the window that decided begins: the word lies in it. */
    uint64_t end;        /**< Sample at which it ends: the time of the decision. */
} kws_detection;

/** A stream's detector. Yours; set up by kws_detector_reset. All of it is private. */
typedef struct kws_detector_state {
    uint32_t wait;   /**< Inferences left of the refractory time. */
    uint32_t armed;  /**< Inferences left of the wake word's window, the present one included; 0 where there is none. */
    uint16_t filled; /**< Posteriors since averaging began, at most KWS_SMOOTHING_STEPS. */
    uint16_t next;   /**< Row of `history`. */
    uint16_t oldest; /**< Of `spoken`. */
    uint16_t spoken[KWS_SPOKEN_STEPS];                   /**< Unknown words' latest posteriors, 1/256. */
    uint16_t history[KWS_SMOOTHING_STEPS][KWS_N_LABELS]; /**< The latest posteriors, 1/256. */
    bool released[KWS_N_LABELS];                         /**< Whether a label may be detected again. */
} kws_detector_state;

/**
 * Forgets everything: the next posteriors are the first of a new stream.
 *
 * @param state What to set up.
 * @return KWS_OK, or KWS_ERR_ARGUMENT for NULL.
 */
kws_status kws_detector_reset(kws_detector_state *state);

/**
 * Takes the model's output for one window.
 *
 * @param state A stream's.
 * @param config Settings.
 * @param posteriors KWS_N_LABELS values, (q + 128) / 256 each.
 * @param end Sample of the stream at which the window ends.
 * @param found Receives the keyword where one was detected; else it is as it was.
 * @param detected Receives whether one was.
 * @return KWS_OK, or KWS_ERR_ARGUMENT for NULL.
 */
kws_status kws_detector_process(kws_detector_state *state, const kws_detector_config *config,
                                const int8_t posteriors[KWS_N_LABELS], uint64_t end, kws_detection *found,
                                bool *detected);

#ifdef __cplusplus
}
#endif

#endif /* KWS_DETECTOR_H_ */
