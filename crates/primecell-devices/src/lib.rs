//! Emulated Arm PrimeCell devices: PL011 UART and PL031 RTC.
#![no_std]
