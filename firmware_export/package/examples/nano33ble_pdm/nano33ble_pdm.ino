// Keyword spotting on an Arduino Nano 33 BLE Sense, with its own microphone.

#include <PDM.h>

// Makes the Arduino build find TensorFlow Lite Micro, which the library includes.
#include <Chirale_TensorFlowLite.h>

#include <kws_hal.h>
#include <kws_run.h>

#if KWS_SAMPLE_RATE != 16000
#error "the PDM library has no other rate near speech than 16000 Hz on this board"
#endif

// Samples that wait while an inference runs: 512 ms, in 16 KiB. A power of two.
constexpr uint32_t kRing = 8192;
constexpr unsigned long kTimeoutMs = 1000;

// The callback, an interrupt, writes `written`; the program writes `taken`. Both count samples and wrap.
static int16_t ring[kRing];
static volatile uint32_t written, taken;
static volatile uint32_t lost;

// Empties the driver's buffer even where the ring is full: it stops the microphone when it finds its buffer unread.
static void onPdm() {
  static int16_t chunk[256];
  for (;;) {
    const int bytes = PDM.read(chunk, sizeof chunk);
    if (bytes <= 0) {
      return;
    }
    const uint32_t n = static_cast<uint32_t>(bytes) / sizeof chunk[0];
    for (uint32_t i = 0; i < n; i++) {
      if (written - taken < kRing) {
        ring[written % kRing] = chunk[i];
        written = written + 1;
      } else {
        lost = lost + 1;
      }
    }
  }
}

int kws_hal_audio_start(void) {
  PDM.onReceive(onPdm);
  return PDM.begin(1, KWS_SAMPLE_RATE) ? 0 : -1;
}

int kws_hal_audio_read(int16_t *samples, size_t n) {
  static uint32_t reported;
  const unsigned long start = millis();
  while (written == taken) {
    if (millis() - start > kTimeoutMs) {
      kws_hal_print("the microphone is silent");
      return -1;
    }
    delay(1);
  }
  size_t count = 0;
  while (count < n && written != taken) {
    samples[count++] = ring[taken % kRing];
    taken = taken + 1;
  }
  const uint32_t now = lost;
  if (now != reported) {
    char line[48];
    snprintf(line, sizeof line, "%lu samples were lost", static_cast<unsigned long>(now - reported));
    kws_hal_print(line);
    reported = now;
  }
  return static_cast<int>(count);
}

void kws_hal_print(const char *line) { Serial.println(line); }

// Of the processor's debug unit; stands still while the processor sleeps.
uint32_t kws_hal_cycles(void) { return DWT->CYCCNT; }

static void onKeyword(const kws_detection *detection, void *) {
  char line[96];
  snprintf(line, sizeof line, "%s (%u %%) at %lu ms", detection->keyword,
           static_cast<unsigned>(detection->score * 100.0f + 0.5f),
           static_cast<unsigned long>(detection->end * 1000 / KWS_SAMPLE_RATE));
  kws_hal_print(line);
}

void setup() {
  Serial.begin(115200);
  while (!Serial && millis() < 4000) {
  }
  CoreDebug->DEMCR |= CoreDebug_DEMCR_TRCENA_Msk;
  DWT->CYCCNT = 0;
  DWT->CTRL |= DWT_CTRL_CYCCNTENA_Msk;

  const int status = kws_run(onKeyword, nullptr);
  char line[48];
  snprintf(line, sizeof line, "kws_run returned %d", status);
  kws_hal_print(line);
}

void loop() { delay(1000); }
