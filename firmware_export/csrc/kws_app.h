/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Keyword detection on a stream: PCM in, detections out through a callback.
 *
 * Errors stick. An error of kws_app_init or of the model ends the stream: all functions then return it and do nothing,
 * until kws_app_init succeeds. Any other KWS_ERR_ARGUMENT leaves the stream as it was.
 */
#ifndef KWS_APP_H_
#define KWS_APP_H_

#include <stddef.h>
#include <stdint.h>

#include "kws_config.h"
#include "kws_detector.h"
#include "kws_frontend.h"
#include "kws_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Hears of a keyword. Called from kws_app_process; of what changes the kws_app, it may call kws_app_reset.
 *
 * @param detection The keyword; valid during the call.
 * @param context As given to kws_app_init.
 */
typedef void (*kws_callback)(const kws_detection *detection, void *context);

/** One stream. Yours (static: it has some KiB); set up by kws_app_init. Only `config` is for writing. */
typedef struct kws_app {
    uint32_t set_up;                   /**< Whether kws_app_init was called; private. */
    kws_status status;                 /**< The error that ended the stream; see kws_app_error. */
    kws_model *model;                  /**< What kws_app_init was given. */
    kws_frontend_state frontend;       /**< From samples to features. */
    kws_detector_state detector;       /**< From posteriors to keywords. */
    const kws_detector_config *config; /**< &kws_detector_defaults; may be set to one of yours after kws_app_init. */
    kws_callback callback;             /**< What kws_app_init was given. */
    void *context;                     /**< What kws_app_init was given. */
    uint64_t n_samples;                /**< Samples of the stream so far, those that were lost included. */
    uint64_t start;                    /**< Sample at which what is heard without a gap begins. */
    uint64_t lost;                     /**< Samples of the stream that were lost. */
    uint32_t overruns;                 /**< How often some were. */
    uint32_t until_step;               /**< Frames until the next inference, 1 to KWS_STEP_FRAMES. */
} kws_app;

/** @return sizeof(kws_app) as the library was compiled: for other languages, and to find out unequal settings. */
size_t kws_app_sizeof(void);

/**
 * Starts a stream; again, too, and after an error.
 *
 * @param app What to set up.
 * @param model A model that is set up, for this stream alone.
 * @param callback Called for every keyword.
 * @param context Given to `callback`; may be NULL.
 * @return KWS_OK, KWS_ERR_ARGUMENT, or what kws_model_reset returns.
 */
kws_status kws_app_init(kws_app *app, kws_model *model, kws_callback callback, void *context);

/**
 * The error that ended the stream.
 *
 * @param app Any kws_app.
 * @return KWS_OK if none has, KWS_ERR_STATE before kws_app_init, KWS_ERR_ARGUMENT for NULL, or the error.
 */
kws_status kws_app_error(const kws_app *app);

/**
 * Starts a new stream, whose first sample comes next.
 *
 * @param app A stream that no error has ended.
 * @return KWS_OK, what kws_app_error returns, or what kws_model_reset does.
 */
kws_status kws_app_reset(kws_app *app);

/**
 * Hears a block of any length. A frame is computed every KWS_HOP_LENGTH samples; every KWS_STEP_FRAMES-th of them costs
 * an inference.
 *
 * @param app A stream that no error has ended.
 * @param samples Mono, KWS_SAMPLE_RATE Hz, full scale -32768 to 32767; NULL only where there are none.
 * @param n_samples How many; at most SIZE_MAX / 2, so that a negative number is refused.
 * @return KWS_OK, KWS_ERR_ARGUMENT, what kws_app_error returns, or what kws_model_invoke does.
 */
kws_status kws_app_process(kws_app *app, const int16_t *samples, size_t n_samples);

/**
 * Tells that samples were lost before those that come next. They are counted and the clock skips them. Detection starts
 * anew, as after silence: nothing is detected across the gap.
 *
 * @param app A stream that no error has ended.
 * @param n_samples How many; 0 changes nothing.
 * @return KWS_OK, what kws_app_error returns, or what kws_model_reset does.
 */
kws_status kws_app_lost(kws_app *app, uint32_t n_samples);

#ifdef __cplusplus
}
#endif

#endif /* KWS_APP_H_ */
