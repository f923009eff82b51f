/* The model, run by TensorFlow Lite Micro. */
#ifndef KWS_MODEL_H_
#define KWS_MODEL_H_

#include <stddef.h>
#include <stdint.h>

#include "kws_config.h"
#include "kws_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Has the next kws_model_init (so kws_app_init, and kws_run) use the application's memory: `size` bytes at `arena`, about
 * KWS_ARENA_SIZE. Up to 15 of them are lost where it is not aligned to 16. Returns KWS_OK, or KWS_ERR_ARGUMENT for NULL,
 * for less than 1024 bytes, and for a negative size. */
int kws_model_use_arena(void *arena, size_t size);

/* Sets up the interpreter, by default in a static array of KWS_ARENA_SIZE bytes, which -DKWS_STATIC_ARENA=0 leaves out.
 * Called again, it starts anew. Returns KWS_OK or KWS_ERR_*. */
int kws_model_init(void);

/* Clears what the model remembers between inferences (nothing, for a model that takes a whole window). Returns KWS_OK or
 * KWS_ERR_*. */
int kws_model_reset(void);

/* The input to fill before each invocation, KWS_INPUT_SIZE values; NULL before kws_model_init. */
int8_t *kws_model_input(void);

/* Runs the model; `posteriors` are then KWS_N_LABELS values, valid until the next invocation. Returns KWS_OK or
 * KWS_ERR_*; after an error `posteriors` is as it was. */
int kws_model_invoke(const int8_t **posteriors);

/* Bytes of the arena that are in use (0 before kws_model_init), and of the model in flash. */
size_t kws_model_arena_used(void);
size_t kws_model_size(void);

#ifdef __cplusplus
}
#endif

#endif /* KWS_MODEL_H_ */
