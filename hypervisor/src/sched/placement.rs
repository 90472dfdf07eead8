//! On which CPUs each vCPU may run.

use alloc::vec::Vec;

use dtb_platform::{Placement, VmConfig};

use super::cpu_set::CpuSet;
use crate::cpu::PcpuId;

/// Returns the CPUs of a machine of `cpu_count` on which each vCPU of each VM
/// may run. CPUs that are named and do not exist are left out.
///
/// Those that do not say get a CPU of their own each, if there are enough that
/// nobody names; else they may run on any.
#[must_use]
pub fn place(configs: &[&VmConfig], cpu_count: u16) -> Vec<Vec<CpuSet>> {
    let all = CpuSet::first(cpu_count);
    let named: CpuSet = configs
        .iter()
        .flat_map(|config| match &config.placement {
            Placement::Automatic => &[],
            Placement::Pinned(cpus) | Placement::Within(cpus) => cpus.as_slice(),
        })
        .filter_map(|cpu| existing(*cpu, &all))
        .collect();
    let automatic = |config: &&&VmConfig| config.placement == Placement::Automatic;
    let wanted: usize = configs
        .iter()
        .filter(automatic)
        .map(|config| config.cpus as usize)
        .sum();
    let mut free = all.iter().filter(|cpu| !named.contains(*cpu));
    let has_enough = all.len() - named.len() >= wanted;
    configs
        .iter()
        .map(|config| {
            (0..config.cpus as usize)
                .map(|vcpu| match &config.placement {
                    Placement::Automatic if has_enough => free.next().into_iter().collect(),
                    Placement::Automatic => all,
                    Placement::Pinned(cpus) => {
                        let cpu = cpus.get(vcpu).and_then(|cpu| existing(*cpu, &all));
                        cpu.into_iter().collect()
                    }
                    Placement::Within(cpus) => {
                        cpus.iter().filter_map(|cpu| existing(*cpu, &all)).collect()
                    }
                })
                .collect()
        })
        .collect()
}

fn existing(cpu: u32, all: &CpuSet) -> Option<PcpuId> {
    let cpu = u16::try_from(cpu).ok().map(PcpuId::new)?;
    all.contains(cpu).then_some(cpu)
}

/// Returns where vCPU number `vcpu` of VM number `vm` is at first: those that
/// float are spread over their CPUs.
#[must_use]
pub fn first_home(set: &CpuSet, vm: u16, vcpu: u16) -> PcpuId {
    let turn = (usize::from(vm) + usize::from(vcpu)) % set.len().max(1);
    set.iter().nth(turn).unwrap_or(PcpuId::new(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use alloc::string::{String, ToString};

    fn placed(vms: &[(u32, Placement)], cpu_count: u16) -> Vec<Vec<String>> {
        let configs: Vec<_> = vms
            .iter()
            .map(|(cpus, placement)| testing::config(*cpus, placement.clone()))
            .collect();
        place(&configs.iter().collect::<Vec<_>>(), cpu_count)
            .iter()
            .map(|vcpus| vcpus.iter().map(ToString::to_string).collect())
            .collect()
    }

    #[test]
    fn who_does_not_say_gets_a_cpu_of_its_own_where_there_are_enough() {
        use Placement::{Automatic, Pinned, Within};
        assert_eq!(placed(&[(4, Automatic)], 4), [["0", "1", "2", "3"]]);
        assert_eq!(placed(&[(2, Automatic)], 1), [["0", "0"]]);
        assert_eq!(
            placed(
                &[(2, Automatic), (2, Pinned([1, 0].into())), (1, Automatic)],
                5
            ),
            [&["2", "3"][..], &["1", "0"], &["4"]]
        );
        assert_eq!(
            placed(&[(2, Automatic), (2, Within([0, 1].into()))], 3),
            [["0-2", "0-2"], ["0-1", "0-1"]]
        );
        assert_eq!(placed(&[(2, Pinned([0, 9].into()))], 2), [["0", ""]]);
    }

    #[test]
    fn those_that_float_begin_on_different_cpus() {
        let set: CpuSet = [1, 4, 6].map(PcpuId::new).into_iter().collect();
        let homes = [0, 1, 2, 3].map(|vcpu| first_home(&set, 1, vcpu).raw());
        assert_eq!(homes, [4, 6, 1, 4]);
    }
}
