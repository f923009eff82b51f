/* SPDX-License-Identifier: Apache-2.0 */
/* Keyword spotting on an ESP32-S3 with an I2S microphone such as the INMP441.
 *
 * Wiring: SCK to PIN_BCLK, WS to PIN_WS, SD to PIN_DIN, L/R to ground (left channel), VDD to 3.3 V. */
#include <stdbool.h>
#include <stdio.h>

#include "driver/gpio.h"
#include "driver/i2s_std.h"
#include "esp_cpu.h"
#include "esp_err.h"
#include "esp_log.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "kws_run.h"
#include "kws_shift.h"

#define PIN_BCLK GPIO_NUM_4
#define PIN_WS GPIO_NUM_5
#define PIN_DIN GPIO_NUM_6

/* 16 * 256 samples are 256 ms at 16 kHz, in 16 KiB. The driver keeps one buffer less than it has. So 240 ms may pass
 * between two reads, and an inference must not take longer. */
#define DMA_BUFFERS 16
#define DMA_SAMPLES 256

/* A slot has 32 bits, and the microphone fills the upper 24. A shift by 16 would map full scale (120 dB SPL) to full
 * scale, and leave speech, at 60 to 70 dB SPL, in the lowest bits. Every bit less amplifies by 6 dB. So a shift by 12
 * amplifies by 24 dB, and saturates at 96 dB SPL. */
#define MICROPHONE_SHIFT 12

#define STACK_BYTES 8192
#define READ_TIMEOUT_MS 1000

static const char *const TAG = "kws";

static i2s_chan_handle_t microphone;
static volatile uint32_t overruns; /* buffers that were overwritten before they were read */

static bool on_overrun(i2s_chan_handle_t handle, i2s_event_data_t *event, void *user) {
    (void)handle;
    (void)event;
    (void)user;
    overruns = overruns + 1;
    return false; /* no task was woken */
}

/* Makes an error negative for kws_port. esp_err_t has ESP_FAIL, which is -1, and positive numbers. */
static int failed(const char *what, esp_err_t error) {
    ESP_LOGE(TAG, "%s: %s", what, esp_err_to_name(error));
    return error > 0 ? -(int)error : (int)error;
}

static int start_audio(void *context) {
    (void)context;
    i2s_chan_config_t channel = I2S_CHANNEL_DEFAULT_CONFIG(I2S_NUM_AUTO, I2S_ROLE_MASTER);
    channel.dma_desc_num = DMA_BUFFERS;
    channel.dma_frame_num = DMA_SAMPLES;
    esp_err_t error = i2s_new_channel(&channel, NULL, &microphone);
    if (error != ESP_OK) {
        return failed("i2s_new_channel", error);
    }
    i2s_std_config_t config = {
        .clk_cfg = I2S_STD_CLK_DEFAULT_CONFIG(KWS_SAMPLE_RATE),
        .slot_cfg = I2S_STD_PHILIPS_SLOT_DEFAULT_CONFIG(I2S_DATA_BIT_WIDTH_32BIT, I2S_SLOT_MODE_MONO),
        .gpio_cfg =
            {
                .mclk = I2S_GPIO_UNUSED,
                .bclk = PIN_BCLK,
                .ws = PIN_WS,
                .dout = I2S_GPIO_UNUSED,
                .din = PIN_DIN,
            },
    };
    config.slot_cfg.slot_mask = I2S_STD_SLOT_LEFT;
    error = i2s_channel_init_std_mode(microphone, &config);
    if (error != ESP_OK) {
        return failed("i2s_channel_init_std_mode", error);
    }
    const i2s_event_callbacks_t callbacks = {.on_recv_q_ovf = on_overrun};
    error = i2s_channel_register_event_callback(microphone, &callbacks, NULL);
    if (error != ESP_OK) {
        return failed("i2s_channel_register_event_callback", error);
    }
    error = i2s_channel_enable(microphone);
    return error == ESP_OK ? 0 : failed("i2s_channel_enable", error);
}

static int read_audio(void *context, int16_t *samples, size_t n, uint32_t *lost) {
    static int32_t slots[DMA_SAMPLES];
    static uint32_t reported;
    size_t taken = 0;
    (void)context;
    const uint32_t overwritten = overruns; /* the driver's oldest buffers, which came before these */
    const size_t wanted = n < DMA_SAMPLES ? n : DMA_SAMPLES;
    const esp_err_t error = i2s_channel_read(microphone, slots, wanted * sizeof slots[0], &taken, READ_TIMEOUT_MS);
    if (error != ESP_OK) {
        return failed("i2s_channel_read", error);
    }
    taken /= sizeof slots[0];
    for (size_t i = 0; i < taken; i++) {
        const int32_t level = kws_floor_shift(slots[i], MICROPHONE_SHIFT);
        samples[i] = (int16_t)(level > INT16_MAX ? INT16_MAX : level < INT16_MIN ? INT16_MIN : level);
    }
    *lost = (overwritten - reported) * DMA_SAMPLES;
    reported = overwritten;
    return (int)taken;
}

static void print(void *context, const char *line) {
    (void)context;
    ESP_LOGI(TAG, "%s", line);
}

static uint32_t count_cycles(void *context) {
    (void)context;
    return (uint32_t)esp_cpu_get_cycle_count();
}

static void on_keyword(const kws_detection *detection, void *context) {
    (void)context;
    const unsigned percent = (unsigned)(detection->score * 100.0f + 0.5f);
    const unsigned long milliseconds = (unsigned long)(detection->end * 1000 / KWS_SAMPLE_RATE);
    ESP_LOGI(TAG, "%s (%u %%) at %lu ms", detection->keyword, percent, milliseconds);
}

static void kws_task(void *parameter) {
    (void)parameter;
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
    ESP_LOGE(TAG, "ended with status %d, error %d of the board", (int)status, error);
    vTaskDelete(NULL);
}

void app_main(void) {
    if (xTaskCreate(kws_task, "kws", STACK_BYTES, NULL, 5, NULL) != pdPASS) {
        ESP_LOGE(TAG, "no memory for the task");
    }
}
