/* SPDX-License-Identifier: Apache-2.0 */
/* Keyword spotting on a board whose microphone is Zephyr's node `dmic_dev`, such as an Arduino Nano 33 BLE Sense. */
#include <errno.h>
#include <string.h>

#include <zephyr/audio/dmic.h>
#include <zephyr/device.h>
#include <zephyr/kernel.h>

#include "kws_run.h"

/* 16 blocks of 512 samples wait: 512 ms at 16 kHz. An inference must not take longer. The driver fills two more, and
 * one is being read. */
#define BLOCK_SAMPLES 512
#define BLOCKS (16 + 3)
#define READ_TIMEOUT_MS 1000

K_MEM_SLAB_DEFINE_STATIC(blocks, BLOCK_SAMPLES * sizeof(int16_t), BLOCKS, 4);

static const struct device *const microphone = DEVICE_DT_GET(DT_NODELABEL(dmic_dev));

/* The block that is being read, and its samples that are left. */
static void *block;
static const int16_t *next;
static size_t left;

static int start_audio(void *context) {
    struct pcm_stream_cfg stream = {
        .pcm_rate = KWS_SAMPLE_RATE,
        .pcm_width = 16,
        .block_size = BLOCK_SAMPLES * sizeof(int16_t),
        .mem_slab = &blocks,
    };
    struct dmic_cfg config = {
        .io = {.min_pdm_clk_freq = 1000000, .max_pdm_clk_freq = 3500000, .min_pdm_clk_dc = 40, .max_pdm_clk_dc = 60},
        .streams = &stream,
        .channel =
            {
                .req_chan_map_lo = dmic_build_channel_map(0, 0, PDM_CHAN_LEFT),
                .req_num_chan = 1,
                .req_num_streams = 1,
            },
    };
    (void)context;
    if (!device_is_ready(microphone)) {
        return -ENODEV;
    }
    const int error = dmic_configure(microphone, &config);
    return error < 0 ? error : dmic_trigger(microphone, DMIC_TRIGGER_START);
}

/* Where no block is free, the driver stops with an error. So a loss ends the program. */
static int read_audio(void *context, int16_t *samples, size_t n_samples, uint32_t *lost) {
    (void)context;
    (void)lost;
    if (left == 0) {
        size_t size = 0;
        if (block != NULL) {
            k_mem_slab_free(&blocks, block);
            block = NULL;
        }
        const int error = dmic_read(microphone, 0, &block, &size, READ_TIMEOUT_MS);
        if (error < 0) {
            return error;
        }
        next = block;
        left = size / sizeof(int16_t);
    }
    const size_t taken = n_samples < left ? n_samples : left;
    (void)memcpy(samples, next, taken * sizeof(int16_t));
    next += taken;
    left -= taken;
    return (int)taken;
}

static void print(void *context, const char *line) {
    (void)context;
    printk("%s\n", line);
}

static uint32_t count_cycles(void *context) {
    (void)context;
    return k_cycle_get_32();
}

static void on_keyword(const kws_detection *detection, void *context) {
    (void)context;
    printk("%s (%u %%) at %lu ms\n", detection->keyword, (unsigned)(detection->score * 100.0f + 0.5f),
           (unsigned long)(detection->end * 1000 / KWS_SAMPLE_RATE));
}

int main(void) {
    static const kws_port port = {
        .print = print, .cycles = count_cycles, .audio_start = start_audio, .audio_read = read_audio};
    static KWS_ALIGNED uint8_t arena[KWS_ARENA_SIZE];
    static kws_model model;
    static kws_app app;
    int error = 0;
    kws_status status = kws_model_init(&model, arena, sizeof arena);
    if (status == KWS_OK) {
        status = kws_app_init(&app, &model, on_keyword, NULL);
    }
    if (status == KWS_OK) {
        status = kws_run(&app, &port, &error);
    }
    printk("ended with status %d, error %d of the board\n", (int)status, error);
    return status;
}
