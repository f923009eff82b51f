/* The whole application on a board that has a kws_hal: self-test, microphone, detections. */
#ifndef KWS_RUN_H_
#define KWS_RUN_H_

#include "kws_app.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs the self-test, then calls `callback` for every keyword that the microphone hears. Returns only on an error:
 * KWS_ERR_*, KWS_ERR_SELF_TEST, or what the HAL returned. */
int kws_run(kws_callback callback, void *user);

#ifdef __cplusplus
}
#endif

#endif /* KWS_RUN_H_ */
