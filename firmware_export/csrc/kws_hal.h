/* What kws_run needs of a board; examples/ has it for some. */
#ifndef KWS_HAL_H_
#define KWS_HAL_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Errors are the board's own numbers, which kws_run passes on: all but those of KWS_ERR_* (kws_status.h). */

/* Starts the microphone: mono, KWS_SAMPLE_RATE Hz, 16 bits. Returns 0; any other number is an error. */
int kws_hal_audio_start(void);

/* Waits for samples and copies at most `n` of them. Returns how many, 0 if there were none for a while, or a negative error.
 * The driver must hold what arrives during an inference: at 16 kHz, 1600 samples for one of 100 ms (kws_ring.h does).
 * Where samples were lost before those that it returns, it calls kws_run_lost (kws_run.h). */
int kws_hal_audio_read(int16_t *samples, size_t n);

/* Prints one line, which comes without its end. */
void kws_hal_print(const char *line);

/* A counter of cycles that wraps at 2^32. */
uint32_t kws_hal_cycles(void);

#ifdef __cplusplus
}
#endif

#endif /* KWS_HAL_H_ */
