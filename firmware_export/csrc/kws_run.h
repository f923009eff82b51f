/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief The whole application on a board that has a kws_port: self-test, microphone, detections.
 */
#ifndef KWS_RUN_H_
#define KWS_RUN_H_

#include "kws_app.h"
#include "kws_port.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Runs the self-test, then hears what the microphone does, until something fails. Samples that were lost are counted in
 * `app`, and printed.
 *
 * @param app Set up by kws_app_init. Its callback is called for every keyword.
 * @param port Your board: all of its functions but `cycles` and `audio_start` must be there.
 * @param port_error Receives what a function of `port` returned where this returns KWS_ERR_PORT, else 0; may be NULL.
 * @return Never KWS_OK. KWS_ERR_ARGUMENT, KWS_ERR_SELF_TEST, KWS_ERR_PORT, what kws_app_error returns, or what
 *     kws_app_process does.
 */
kws_status kws_run(kws_app *app, const kws_port *port, int *port_error);

#ifdef __cplusplus
}
#endif

#endif /* KWS_RUN_H_ */
