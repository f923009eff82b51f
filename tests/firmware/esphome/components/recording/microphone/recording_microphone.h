// SPDX-License-Identifier: Apache-2.0
// A microphone that plays a recording in a thread of its own, as ESPHome's microphones do. It plays at the pace of
// sound, or, if RECORDING_FOLLOWS is set, a little ahead of who hears it, so that a slow machine loses nothing.
#pragma once

#include "esphome/components/microphone/microphone.h"
#include "esphome/core/component.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

extern "C" {
// Says that `samples` more were heard.
void recording_heard(size_t samples);
// Whether the recording has been played to its end.
bool recording_ended();
}

namespace esphome {
namespace recording {

class RecordingMicrophone : public microphone::Microphone, public Component {
public:
    RecordingMicrophone() { this->audio_stream_info_ = audio::AudioStreamInfo(16, 1, 16000); }
    void start() override;
    void stop() override { this->state_ = microphone::STATE_STOPPED; }

protected:
    void play_();

    bool started_{false};
};

}  // namespace recording
}  // namespace esphome
