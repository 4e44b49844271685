// BullMQ (Node): FlowProducer.addBulk by 250, Queue.addBulk by 1,000, one Worker; the same conversation as line.py.
// A job has one parent, so there are no diamonds, and a fan begins with its children. Parents don't read their children's
// values, which spares BullMQ a round trip for each of them.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const require = createRequire(`${process.env.BENCH_HOME}/package.json`)
const { FlowProducer, Queue, QueueEvents, Worker } = require('bullmq')
const IORedis = require('ioredis')

const STAGES = 4
const KEY = 's3://media/flows/0000000000000000/source/1-00000000/video.mp4'
const data = { key: KEY }
const [url, namespace] = process.argv.slice(2)
const connect = () => new IORedis(url, { maxRetriesPerRequest: null })

class Tally {
  expect (flows) {
    Object.assign(this, { flows, began: 0, ran: 0, ended: 0, earlierAt: 0, releasedAt: 0, gate: null, held: null })
    this.allEnded = new Promise(resolve => { this.tellEnded = resolve })
    this.allBegan = new Promise(resolve => { this.tellBegan = resolve })
  }

  hold () {
    this.gate = new Promise(resolve => { this.open = resolve })
  }

  async stage (job) {
    if (this.gate) {
      if (++this.began >= this.flows) this.tellBegan()
      await this.gate
    }
    this[job.name === 'last' ? 'releasedAt' : 'earlierAt'] = performance.now()
    return job.data.key
  }

  // Called when BullMQ says that a job has completed: it is on the server then.
  completed (job) {
    this.ran++
    if (job.name === 'last' && ++this.ended >= this.flows) this.tellEnded()
  }
}

const tally = new Tally()
tally.expect(0)

class Driver {
  constructor (name) {
    this.name = name
  }

  chain (keep) {
    const opts = keep ? {} : { removeOnComplete: true }
    let flow = null
    for (let stage = 0; stage < STAGES; stage++) {
      const name = stage === STAGES - 1 ? 'last' : 'step'
      flow = { name, queueName: this.name, data, opts, ...(flow ? { children: [flow] } : {}) }
    }
    return flow
  }

  fan (width) {
    const opts = { removeOnComplete: true }
    const children = Array.from({ length: width }, () => ({ name: 'step', queueName: this.name, data, opts }))
    return { name: 'last', queueName: this.name, data, opts, children }
  }

  async submit ({ shape, flows, width, keep }) {
    if (shape === 'single') return this.singles(flows, keep)
    const connection = connect()
    const producer = new FlowProducer({ connection })
    for (let start = 0; start < flows; start += 250) {
      const made = Array.from({ length: Math.min(250, flows - start) }, () => shape === 'fan' ? this.fan(width) : this.chain(keep))
      await producer.addBulk(made)
    }
    await producer.close()
    connection.disconnect()
  }

  async singles (flows, keep) {
    const connection = connect()
    const queue = new Queue(this.name, { connection })
    const opts = keep ? {} : { removeOnComplete: true }
    for (let start = 0; start < flows; start += 1000) {
      await queue.addBulk(Array.from({ length: Math.min(1000, flows - start) }, () => ({ name: 'last', data, opts })))
    }
    await queue.close()
    connection.disconnect()
  }

  async start (concurrency) {
    this.connection = connect()
    this.worker = new Worker(this.name, job => tally.stage(job), { connection: this.connection, concurrency })
    this.worker.on('completed', job => tally.completed(job))
    await this.worker.waitUntilReady()
  }

  async stop () {
    if (this.events) await this.events.close()
    if (this.producer) await this.producer.close()
    await this.worker.close()
    this.connection.disconnect()
  }

  async one () {
    if (!this.producer) {
      this.producer = new FlowProducer({ connection: this.connection })
      this.events = new QueueEvents(this.name, { connection: connect() })
      await this.events.waitUntilReady()
    }
    const { job } = await this.producer.add(this.chain(true))
    await job.waitUntilFinished(this.events)
  }

  async claims (samples) {
    const connection = connect()
    const queue = new Queue(this.name, { connection })
    const worker = new Worker(this.name, null, { connection, autorun: false })
    await worker.waitUntilReady()
    const milliseconds = []
    for (let sample = 0; sample < samples; sample++) {
      await queue.add('last', data)
      const began = performance.now()
      if (!await worker.getNextJob('measuring')) throw new Error('nothing was claimed')
      milliseconds.push(performance.now() - began)
    }
    await worker.close(true)
    await queue.close()
    connection.disconnect()
    return milliseconds
  }
}

const main = new Driver(namespace)
let idle = null

const orders = {
  async warm ({ runs = true, ...work }) {
    const driver = new Driver(`${namespace}w${process.pid}`)
    tally.expect(200)
    await driver.submit({ ...work, flows: 200, width: 10 })
    if (!runs) return {}
    await driver.start(work.concurrency ?? 50)
    await tally.allEnded
    await driver.stop()
    return {}
  },
  async submit (work) {
    return timed(() => main.submit(work))
  },
  async run (work) {
    tally.expect(work.flows)
    const answer = await timed(async () => {
      await main.start(work.concurrency)
      await tally.allEnded
    })
    await main.stop()
    const rss = process.resourceUsage().maxRSS * (process.platform === 'darwin' ? 1 : 1024)
    return { ...answer, ran: tally.ran, ended: tally.ended, rss, release_ms: tally.releasedAt - tally.earlierAt }
  },
  async hold (work) {
    tally.expect(work.flows)
    tally.hold()
    idle = main
    await main.start(work.concurrency)
    await tally.allBegan
    return {}
  },
  async idle (work) {
    idle = main
    await main.start(work.concurrency)
    return { rss: process.resourceUsage().maxRSS * (process.platform === 'darwin' ? 1 : 1024) }
  },
  async release () {
    if (tally.gate) {
      tally.open()
      await tally.allEnded
    }
    await idle.stop()
    return {}
  },
  async alone ({ runs, concurrency }) {
    tally.expect(Infinity)
    await main.start(concurrency)
    for (let run = 0; run < 20; run++) await main.one()
    const milliseconds = []
    for (let run = 0; run < runs; run++) {
      const began = performance.now()
      await main.one()
      milliseconds.push(performance.now() - began)
    }
    await main.stop()
    return { milliseconds }
  },
  async claims ({ samples }) {
    return { milliseconds: await main.claims(samples) }
  }
}

async function timed (work) {
  const began = performance.now()
  const cpu = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(cpu)
  return { seconds: (performance.now() - began) / 1000, cpu: (user + system) / 1e6 }
}

const say = answer => process.stdout.write(JSON.stringify(answer) + '\n')
const version = name => require(`${name}/package.json`).version

say({ versions: { bullmq: version('bullmq'), ioredis: version('ioredis'), node: process.versions.node } })
for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...words } = JSON.parse(line)
  say(await orders[name](words))
}
process.exit(0)
