"""ESPHome component: hears all words of one network, which kws-firmware exported into this folder."""

import json
from inspect import signature
from pathlib import Path

import esphome.codegen as cg
import esphome.config_validation as cv
from esphome import automation
from esphome.components import microphone
from esphome.const import CONF_ID, CONF_MICROPHONE, CONF_TRIGGER_ID
from esphome.core import CORE

DEPENDENCIES = ["microphone"]

CONF_ON_ANY_COMMAND = "on_any_command"
CONF_ON_COMMAND = "on_command"
CONF_ON_ERROR = "on_error"
CONF_START_ON_BOOT = "start_on_boot"

MODEL = json.loads(Path(__file__).with_name("model.json").read_text(encoding="utf-8"))
"""What the export says about the model: its words, sample rate and sensitivities."""

kws_edge_ns = cg.esphome_ns.namespace("kws_edge")
KwsEdge = kws_edge_ns.class_("KwsEdge", cg.Component)
CommandTrigger = kws_edge_ns.class_("CommandTrigger", automation.Trigger.template(cg.std_string, cg.float_))
ErrorTrigger = kws_edge_ns.class_("ErrorTrigger", automation.Trigger.template(cg.std_string))
StartAction = kws_edge_ns.class_("StartAction", automation.Action)
StopAction = kws_edge_ns.class_("StopAction", automation.Action)
IsRunningCondition = kws_edge_ns.class_("IsRunningCondition", automation.Condition)


def _commands(config):
    """One entry of ``on_command``: words, each with its actions."""
    if not isinstance(config, dict):
        raise cv.Invalid(f"give a word and its actions, such as '- {MODEL['keywords'][0]}: ...', got {config!r}")
    for word in config:
        if word in ("True", "False") and word not in MODEL["keywords"]:
            raise cv.Invalid('YAML reads on, off, yes and no as true and false; put the word in quotes: "on"')
        if word not in MODEL["keywords"]:
            raise cv.Invalid(f"{word!r} is no word of {MODEL['name']}; there are {', '.join(MODEL['keywords'])}")
    return {word: _automation(CommandTrigger)(actions) for word, actions in config.items()}


def _automation(trigger):
    return automation.validate_automation({cv.GenerateID(CONF_TRIGGER_ID): cv.declare_id(trigger)})


def _framework(config):
    if CORE.is_esp32 and CORE.target_framework != "esp-idf":
        raise cv.Invalid(f"it takes the framework esp-idf, not {CORE.target_framework}")
    return config


CONFIG_SCHEMA = cv.All(
    cv.Schema(
        {
            cv.GenerateID(): cv.declare_id(KwsEdge),
            cv.Optional(CONF_MICROPHONE, default={}): microphone.microphone_source_schema(),
            cv.Optional(CONF_START_ON_BOOT, default=True): cv.boolean,
            cv.Optional(CONF_ON_COMMAND): cv.ensure_list(_commands),
            cv.Optional(CONF_ON_ANY_COMMAND): _automation(CommandTrigger),
            cv.Optional(CONF_ON_ERROR): _automation(ErrorTrigger),
        }
    ).extend(cv.COMPONENT_SCHEMA),
    cv.only_on(["esp32", "host"]),
    _framework,
)

FINAL_VALIDATE_SCHEMA = cv.Schema(
    {
        cv.Required(CONF_MICROPHONE): microphone.final_validate_microphone_source_schema(
            "kws_edge", sample_rate=MODEL["sample_rate"]
        )
    },
    extra=cv.ALLOW_EXTRA,
)


async def _command(config, var, *word):
    trigger = cg.new_Pvariable(config[CONF_TRIGGER_ID], var, *word)
    await automation.build_automation(trigger, [(cg.std_string, "word"), (cg.float_, "score")], config)


async def to_code(config):
    var = cg.new_Pvariable(config[CONF_ID])
    await cg.register_component(var, config)
    source = await microphone.microphone_source_to_code(config[CONF_MICROPHONE])
    cg.add(var.set_microphone_source(source))
    cg.add(var.set_start_on_boot(config[CONF_START_ON_BOOT]))
    for entry in config.get(CONF_ON_COMMAND, []):
        for word, actions in entry.items():
            for each in actions:
                await _command(each, var, word)
    for each in config.get(CONF_ON_ANY_COMMAND, []):
        await _command(each, var)
    for each in config.get(CONF_ON_ERROR, []):
        trigger = cg.new_Pvariable(each[CONF_TRIGGER_ID], var)
        await automation.build_automation(trigger, [(cg.std_string, "reason")], each)
    cg.add_build_flag("-DTF_LITE_STATIC_MEMORY")  # as TensorFlow Lite Micro is compiled
    if CORE.is_esp32:
        _add_tensorflow()


def _add_tensorflow():
    """TensorFlow Lite Micro with Espressif's kernels, in the version that ESPHome's micro_wake_word takes."""
    from esphome.components import esp32

    esp32.add_idf_component(name="espressif/esp-tflite-micro", ref="1.3.3~1")
    cg.add_build_flag("-DTF_LITE_DISABLE_X86_NEON")
    cg.add_build_flag("-DESP_NN")
    if esp32.get_esp32_variant() == esp32.VARIANT_ESP32S2:
        cg.add_build_flag("-DKWS_FIXED_POINT=1")  # the compiler does not say that this core has no floating-point unit


ACTION_SCHEMA = automation.maybe_simple_id({cv.GenerateID(): cv.use_id(KwsEdge)})
# Newer versions of ESPHome want to know that an action does not wait.
AT_ONCE = {"synchronous": True} if "synchronous" in signature(automation.register_action).parameters else {}


@automation.register_action("kws_edge.start", StartAction, ACTION_SCHEMA, **AT_ONCE)
@automation.register_action("kws_edge.stop", StopAction, ACTION_SCHEMA, **AT_ONCE)
@automation.register_condition("kws_edge.is_running", IsRunningCondition, ACTION_SCHEMA)
async def _with_parent(config, action_id, template_arg, args):
    var = cg.new_Pvariable(action_id, template_arg)
    await cg.register_parented(var, config[CONF_ID])
    return var
