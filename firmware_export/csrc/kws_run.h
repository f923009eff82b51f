/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief The whole application on a board with a kws_port: self-test, microphone, detections.
 */
#ifndef KWS_RUN_H_
#define KWS_RUN_H_

#include "kws_app.h"
#include "kws_port.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Runs the self-test, then hears the microphone until something fails. Lost samples are counted in `app`, and reported
 * by `print`.
 *
 * @param app A stream that kws_app_init set up. Its callback is called for every keyword.
 * @param port Your board. Only the functions `cycles` and `audio_start` may be NULL.
 * @param port_error Receives the return value of the function of `port` that caused KWS_ERR_PORT, else 0; may be NULL.
 * @return Never KWS_OK. KWS_ERR_ARGUMENT, KWS_ERR_SELF_TEST, KWS_ERR_PORT, the error of kws_app_error, or an error of
 *     kws_app_process.
 */
kws_status kws_run(kws_app *app, const kws_port *port, int *port_error);

#ifdef __cplusplus
}
#endif

#endif /* KWS_RUN_H_ */
