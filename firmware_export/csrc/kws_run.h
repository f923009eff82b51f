/* The whole application on a board that has a kws_hal: self-test, microphone, detections. */
#ifndef KWS_RUN_H_
#define KWS_RUN_H_

#include "kws_app.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs the self-test, then calls `callback` for every keyword that the microphone hears, with `user`, which may be NULL.
 * Returns only on an error: KWS_ERR_*, or the board's own (kws_hal.h). */
int kws_run(kws_callback callback, void *user);

/* For kws_hal_audio_read: so many samples were lost before those that it is about to return. kws_run prints and counts
 * them; see kws_app_lost. */
void kws_run_lost(uint32_t n_samples);

/* What kws_run works on: its `lost` and `overruns` count what a board that is too slow does not hear. */
const kws_app *kws_run_state(void);

#ifdef __cplusplus
}
#endif

#endif /* KWS_RUN_H_ */
