"""A microphone that plays the raw file of int16 samples that RECORDING names."""

import esphome.codegen as cg
import esphome.config_validation as cv
from esphome.components import audio, microphone
from esphome.const import CONF_ID

recording_ns = cg.esphome_ns.namespace("recording")
RecordingMicrophone = recording_ns.class_("RecordingMicrophone", microphone.Microphone, cg.Component)


def _limits(config):
    audio.set_stream_limits(
        min_bits_per_sample=16,
        max_bits_per_sample=16,
        min_channels=1,
        max_channels=1,
        min_sample_rate=16000,
        max_sample_rate=16000,
    )(config)
    return config


CONFIG_SCHEMA = cv.All(
    microphone.MICROPHONE_SCHEMA.extend({cv.GenerateID(): cv.declare_id(RecordingMicrophone)}).extend(
        cv.COMPONENT_SCHEMA
    ),
    _limits,
)


async def to_code(config):
    var = cg.new_Pvariable(config[CONF_ID])
    await cg.register_component(var, config)
    await microphone.register_microphone(var, config)
