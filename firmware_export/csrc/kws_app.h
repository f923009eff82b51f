/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Keyword detection on a stream: PCM in, detections out through a callback.
 *
 * Errors stick. An error of kws_app_init or of the model ends the stream. All functions then return this error and do
 * nothing, until kws_app_init succeeds. Any other KWS_ERR_ARGUMENT leaves the stream unchanged.
 */
#ifndef KWS_APP_H_
#define KWS_APP_H_

#include <stddef.h>
#include <stdint.h>

#include "kws_config.h"
#include "kws_detector.h"
#include "kws_frontend.h"
#include "kws_model.h"
#if KWS_TAUGHT
#include "kws_taught.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Called by kws_app_process for a keyword. Of the functions that change the kws_app, it may only call kws_app_reset.
 *
 * @param detection The keyword; valid during the call.
 * @param context The one given to kws_app_init.
 */
typedef void (*kws_callback)(const kws_detection *detection, void *context);

/** One stream. You provide its memory (static: some KiB), and kws_app_init sets it up. You may write only `config`. */
typedef struct kws_app {
    uint32_t set_up;             /**< Whether kws_app_init was called; private. */
    kws_status status;           /**< The error that ended the stream; see kws_app_error. */
    kws_model *model;            /**< The model given to kws_app_init. */
    kws_frontend_state frontend; /**< Computes features from samples. */
    kws_detector_state detector; /**< Detects keywords from posteriors. */
#if KWS_TAUGHT
    kws_taught taught; /**< Detects taught words; see kws_app_set_words. */
#endif
    const kws_detector_config *config; /**< &kws_detector_defaults; you may set your own after kws_app_init. */
    kws_callback callback;             /**< Given to kws_app_init. */
    void *context;                     /**< Given to kws_app_init. */
    uint64_t n_samples;                /**< Samples of the stream so far, including lost ones. */
    uint64_t start;                    /**< Sample at which the audio since the last gap begins. */
    uint64_t lost;                     /**< Samples of the stream that were lost. */
    uint32_t overruns;                 /**< How often samples were lost. */
    uint32_t until_step;               /**< Frames until the next inference, 1 to KWS_STEP_FRAMES. */
} kws_app;

/** @return sizeof(kws_app) in the compiled library, for other languages and to detect different settings. */
size_t kws_app_sizeof(void);

/**
 * Starts a stream. You may call this again, also after an error.
 *
 * @param app The stream to set up.
 * @param model A model that is set up, and that no other stream uses.
 * @param callback Called for every keyword.
 * @param context Given to `callback`; may be NULL.
 * @return KWS_OK, KWS_ERR_ARGUMENT, or an error of kws_model_reset.
 */
kws_status kws_app_init(kws_app *app, kws_model *model, kws_callback callback, void *context);

#if KWS_TAUGHT
/**
 * Takes another table of taught words in place of kws_taught_table. It must stay where it is. A later kws_app_init
 * takes kws_taught_table again.
 *
 * @param app A stream that no error has ended.
 * @param table A table that `kws-firmware taught` wrote.
 * @param size Bytes that can be read there: the table's, or more.
 * @return KWS_OK, KWS_ERR_ARGUMENT, the error of kws_app_error, or KWS_ERR_WORDS if there is no whole table for this
 *     firmware. After an error, the words stay as they are.
 */
kws_status kws_app_set_words(kws_app *app, const void *table, size_t size);
#endif

/**
 * Returns the error that ended the stream.
 *
 * @param app Any kws_app.
 * @return KWS_OK if there was no error, KWS_ERR_STATE before kws_app_init, KWS_ERR_ARGUMENT for NULL, or the error.
 */
kws_status kws_app_error(const kws_app *app);

/**
 * Starts a new stream. The next sample is its first one.
 *
 * @param app A stream that no error has ended.
 * @return KWS_OK, the error of kws_app_error, or an error of kws_model_reset.
 */
kws_status kws_app_reset(kws_app *app);

/**
 * Hears a block of any length. A frame is computed every KWS_HOP_LENGTH samples, and an inference every KWS_STEP_FRAMES
 * frames.
 *
 * @param app A stream that no error has ended.
 * @param samples Mono, KWS_SAMPLE_RATE Hz, full scale -32768 to 32767; NULL only if there are none.
 * @param n_samples Number of samples; at most SIZE_MAX / 2, so that a negative number is refused.
 * @return KWS_OK, KWS_ERR_ARGUMENT, the error of kws_app_error, or an error of kws_model_invoke.
 */
kws_status kws_app_process(kws_app *app, const int16_t *samples, size_t n_samples);

/**
 * Tells the stream that samples were lost before the next ones. They are counted, and the clock skips them. Detection
 * starts anew, as after silence, so that nothing is detected across the gap.
 *
 * @param app A stream that no error has ended.
 * @param n_samples Number of lost samples; 0 changes nothing.
 * @return KWS_OK, the error of kws_app_error, or an error of kws_model_reset.
 */
kws_status kws_app_lost(kws_app *app, uint32_t n_samples);

#ifdef __cplusplus
}
#endif

#endif /* KWS_APP_H_ */
