package meter

import "time"

const gib = 1 << 30

// Usage is what was used over some span of time.
type Usage struct {
	// AwakeSeconds is how long machines ran.
	AwakeSeconds float64 `json:"awakeSeconds"`
	// CPUSeconds is processor time really used, CPUAllocatedSeconds what could
	// have been: a machine's CPUs times the seconds that it ran.
	CPUSeconds          float64 `json:"cpuSeconds"`
	CPUAllocatedSeconds float64 `json:"cpuAllocatedSeconds"`
	// MemoryGiBSeconds is memory held while awake, MemoryAllocatedGiBSeconds
	// what could have been held.
	MemoryGiBSeconds          float64 `json:"memoryGiBSeconds"`
	MemoryAllocatedGiBSeconds float64 `json:"memoryAllocatedGiBSeconds"`
	// DiskGiBSeconds is what disks stored, awake or not; DiskAwakeGiBSeconds
	// the part of it that was stored while awake.
	DiskGiBSeconds      float64 `json:"diskGiBSeconds"`
	DiskAwakeGiBSeconds float64 `json:"diskAwakeGiBSeconds"`
}

// Add adds what was used elsewhere or at another time.
func (u *Usage) Add(v Usage) {
	u.AwakeSeconds += v.AwakeSeconds
	u.CPUSeconds += v.CPUSeconds
	u.CPUAllocatedSeconds += v.CPUAllocatedSeconds
	u.MemoryGiBSeconds += v.MemoryGiBSeconds
	u.MemoryAllocatedGiBSeconds += v.MemoryAllocatedGiBSeconds
	u.DiskGiBSeconds += v.DiskGiBSeconds
	u.DiskAwakeGiBSeconds += v.DiskAwakeGiBSeconds
}

// stretch is a piece of a machine's life over which nothing changed but
// steadily: its levels went from those of the cursor to those given here.
type stretch struct {
	length time.Duration
	cpu    time.Duration // used meanwhile
	memory int64         // bytes held, on the average
	disk   int64         // bytes stored, on the average
}

// of is what a machine used over a stretch.
func (s stretch) of(m Machine, awake bool) Usage {
	seconds := s.length.Seconds()
	u := Usage{DiskGiBSeconds: seconds * float64(s.disk) / gib}
	if !awake {
		return u
	}
	u.AwakeSeconds = seconds
	u.CPUSeconds = s.cpu.Seconds()
	u.CPUAllocatedSeconds = seconds * float64(m.CPUs)
	u.MemoryGiBSeconds = seconds * float64(s.memory) / gib
	u.MemoryAllocatedGiBSeconds = seconds * float64(m.MemoryMB) / 1024
	u.DiskAwakeGiBSeconds = u.DiskGiBSeconds
	return u
}
