/* Samples that wait while an inference runs: one interrupt, callback or task writes them, the program reads them.
 *
 * A ring that is full has an overrun: it takes nothing more, and counts what is lost, until it has been read empty. So
 * there is one gap, and what lies before it and after it is whole. */
#ifndef KWS_RING_H_
#define KWS_RING_H_

#include <stddef.h>
#include <stdint.h>

#include "kws_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Owned by the caller; set up by kws_ring_init. `written` and `lost` are the writer's, `taken` and `told` the reader's;
 * all four count samples and wrap at 2^32. */
typedef struct kws_ring {
    int16_t *samples;
    uint32_t size; /* a power of two */
    uint32_t written, taken;
    uint32_t lost, told;
    uint32_t overrun; /* 1 from an overrun until the ring has been read empty */
} kws_ring;

/* Gives the ring its memory: `size` samples, a power of two from 2 to 2^30. Else returns KWS_ERR_ARGUMENT. */
int kws_ring_init(kws_ring *ring, int16_t *samples, uint32_t size);

/* For the writer alone. Returns how many of `n` samples were taken; the others are lost. Takes none where an argument is
 * NULL. */
size_t kws_ring_write(kws_ring *ring, const int16_t *samples, size_t n);

/* For the reader alone; never waits. Copies at most `n` samples and returns how many; none where an argument is NULL. When
 * all before a gap has been read, it returns 0, and in `lost` how many samples are missing there: tell kws_run_lost or
 * kws_app_lost, and read on. Otherwise `lost` is 0. */
size_t kws_ring_read(kws_ring *ring, int16_t *samples, size_t n, uint32_t *lost);

#ifdef __cplusplus
}
#endif

#endif /* KWS_RING_H_ */
