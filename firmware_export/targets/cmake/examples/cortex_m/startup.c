/* SPDX-License-Identifier: Apache-2.0 */
/* Vector table and start of an Arm Cortex-M, without any vendor's files. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern uint32_t __stack, __data_load, __data_start, __data_end, __bss_start, __bss_end;

extern void initialise_monitor_handles(void);
extern void __libc_init_array(void);
extern int main(void);

void reset_handler(void);
void systick_handler(void);
void _init(void);
void _fini(void);

static void fault_handler(void) { abort(); }

/* The C library calls these around constructors. */
void _init(void) {}
void _fini(void) {}

void reset_handler(void) {
    volatile uint32_t *const cpacr = (volatile uint32_t *)0xe000ed88u;
    *cpacr |= 0xfu << 20; /* enable the floating-point unit, if there is one */
    __asm volatile("dsb\n isb" ::: "memory");
    memcpy(&__data_start, &__data_load, (size_t)((char *)&__data_end - (char *)&__data_start));
    memset(&__bss_start, 0, (size_t)((char *)&__bss_end - (char *)&__bss_start));
    initialise_monitor_handles();
    __libc_init_array();
    exit(main());
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))(uintptr_t)&__stack,
    reset_handler,
    fault_handler, /* NMI */
    fault_handler, /* HardFault */
    fault_handler, /* MemManage */
    fault_handler, /* BusFault */
    fault_handler, /* UsageFault */
    fault_handler, /* SecureFault, on cores that have it */
    NULL,
    NULL,
    NULL,
    fault_handler, /* SVCall */
    fault_handler, /* debug monitor */
    NULL,
    fault_handler, /* PendSV */
    systick_handler,
};
